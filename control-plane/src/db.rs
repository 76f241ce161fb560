//! The store for asynchronous code: calls run on threads that may block, in bounded number, and
//! every write wakes the change feed, also when whoever asked for it has gone away.

mod turns;

use std::sync::Arc;

use tokio::sync::Semaphore;

use self::turns::Turns;
pub use self::turns::Writer;
use crate::store::{Committed, Result, Revision, Store, StoreError};

/// Queries that run at once for each kind of caller; the others wait.
const CONCURRENT_READS: usize = 16;

/// A handle on the store.
#[derive(Clone)]
pub struct Db {
    store: Arc<dyn Store>,
    on_commit: Arc<dyn Fn(Revision) + Send + Sync>,
    readers: Arc<Semaphore>,
    /// The database runs one write at a time. Writes wait here for their turn, without a thread and without
    /// delaying queries.
    writers: Turns,
}

impl Db {
    /// Wraps a store. Each announced change calls `on_commit` with its revision, on the thread that has
    /// committed it.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        on_commit: impl Fn(Revision) + Send + Sync + 'static,
    ) -> Self {
        Self {
            store,
            on_commit: Arc::new(on_commit),
            readers: Arc::new(Semaphore::new(CONCURRENT_READS)),
            writers: Turns::default(),
        }
    }

    /// The same store with readers of its own: however many queries wait at this handle, none of
    /// another handle waits behind them.
    #[must_use]
    pub fn with_own_readers(&self) -> Self {
        Self { readers: Arc::new(Semaphore::new(CONCURRENT_READS)), ..self.clone() }
    }

    /// Identifies the store; a revision of another epoch means nothing.
    #[must_use]
    pub fn epoch(&self) -> &str {
        self.store.epoch()
    }

    /// Runs a query.
    ///
    /// # Errors
    /// Those of `work`.
    pub async fn read<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Store) -> Result<T> + Send + 'static,
    {
        let permit = Arc::clone(&self.readers).acquire_owned().await.map_err(unavailable)?;
        self.run(permit, work).await
    }

    /// Runs a write that changes nothing that a filter knows.
    ///
    /// # Errors
    /// Those of `work`, and [`StoreError::Busy`] for owners.
    pub async fn write_unannounced<T, F>(&self, writer: Writer<'_>, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Store) -> Result<T> + Send + 'static,
    {
        let turn = self.writers.take(writer).await?;
        self.run(turn, work).await
    }

    /// Holds `permit` until `work` is done, even if the caller stops waiting.
    async fn run<T, F>(&self, permit: impl Send + 'static, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Store) -> Result<T> + Send + 'static,
    {
        let store = Arc::clone(&self.store);
        let call = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work(store.as_ref())
        });
        call.await.map_err(unavailable)?
    }

    /// Runs a change and announces it.
    ///
    /// # Errors
    /// Those of `work`, and [`StoreError::Busy`] for owners.
    pub async fn write<T, F>(&self, writer: Writer<'_>, work: F) -> Result<Committed<T>>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Store) -> Result<Committed<T>> + Send + 'static,
    {
        let on_commit = Arc::clone(&self.on_commit);
        self.write_unannounced(writer, move |store| {
            let committed = work(store)?;
            on_commit(committed.revision);
            Ok(committed)
        })
        .await
    }

    /// Runs a change that may turn out not to be due, and announces it if it was.
    ///
    /// # Errors
    /// Those of `work`, and [`StoreError::Busy`] for owners.
    pub async fn try_write<T, F>(&self, writer: Writer<'_>, work: F) -> Result<Option<Committed<T>>>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Store) -> Result<Option<Committed<T>>> + Send + 'static,
    {
        let on_commit = Arc::clone(&self.on_commit);
        self.write_unannounced(writer, move |store| {
            let committed = work(store)?;
            if let Some(committed) = &committed {
                on_commit(committed.revision);
            }
            Ok(committed)
        })
        .await
    }
}

fn unavailable(error: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Unavailable(Box::new(error))
}
