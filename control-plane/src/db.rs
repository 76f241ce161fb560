//! An asynchronous handle on the store. It runs the store's calls on a bounded number of blocking threads. A call that
//! has begun runs to its end and announces its commit, even if its caller is gone.

mod write_queue;

use std::sync::Arc;

use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use self::write_queue::WriteQueue;
pub use self::write_queue::Writer;
use crate::metrics::{StoreCall, StoreMetrics};
use crate::store::{Committed, PoolUse, Result, Revision, Store, StoreError};

/// The most queries of one handle that run at once. Others wait.
const CONCURRENT_READS: usize = 16;
/// The most calls of [`Db::keep_contact`] at once. There are three; the others are of an earlier moment and hang.
const CONTACTS: usize = 16;

/// A handle on the store. Clones share its bounds.
#[derive(Clone)]
pub struct Db {
    store: Arc<dyn Store>,
    on_commit: Arc<dyn Fn(Revision) + Send + Sync>,
    readers: Arc<Semaphore>,
    /// See [`Db::coordinate`].
    coordinators: Arc<Semaphore>,
    /// See [`Db::keep_contact`].
    contacts: Arc<Semaphore>,
    /// A write waits here without a thread, and without delaying queries.
    writers: WriteQueue,
    metrics: StoreMetrics,
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
            coordinators: Arc::new(Semaphore::new(CONCURRENT_READS)),
            contacts: Arc::new(Semaphore::new(CONTACTS)),
            writers: WriteQueue::default(),
            metrics: StoreMetrics::default(),
        }
    }

    /// A handle whose queries have a bound of their own, so they don't wait for the queries of other handles.
    #[must_use]
    pub fn with_own_readers(&self) -> Self {
        Self { readers: Arc::new(Semaphore::new(CONCURRENT_READS)), ..self.clone() }
    }

    /// Identifies the store. Revisions of different epochs can't be compared.
    #[must_use]
    pub fn epoch(&self) -> &str {
        self.store.epoch()
    }

    /// [`ChangeLog::announced_commits`](crate::store::ChangeLog::announced_commits) of the store.
    #[must_use]
    pub fn announced_commits(&self) -> Option<watch::Receiver<()>> {
        self.store.announced_commits()
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
        let permit = self.turn(StoreCall::Read, &self.readers).await?;
        self.run(StoreCall::Read, permit, work).await
    }

    /// Whether several servers may use the store at once.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.store.is_shared()
    }

    /// Runs a call of [`Replicas`](crate::store::Replicas). It waits neither for queries nor for writes.
    ///
    /// # Errors
    /// Those of `work`.
    pub async fn coordinate<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Store) -> Result<T> + Send + 'static,
    {
        let permit = self.turn(StoreCall::Coordination, &self.coordinators).await?;
        self.run(StoreCall::Coordination, permit, work).await
    }

    /// Runs one of the regular calls by which this replica learns of the changes of others, and shows that it is live. It
    /// does not wait for any other call.
    ///
    /// # Errors
    /// Those of `work`.
    pub async fn keep_contact<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Store) -> Result<T> + Send + 'static,
    {
        let permit = self.turn(StoreCall::Contact, &self.contacts).await?;
        self.run(StoreCall::Contact, permit, work).await
    }

    /// Runs a write that changes nothing that a gateway caches, so it is not announced.
    ///
    /// # Errors
    /// Those of `work`, and [`StoreError::Busy`] for owners.
    pub async fn write_unannounced<T, F>(&self, writer: Writer<'_>, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Store) -> Result<T> + Send + 'static,
    {
        let begun = Instant::now();
        let permit = self.writers.acquire(writer).await;
        self.metrics.refused(StoreCall::Write, &permit);
        let permit = permit?;
        self.metrics.waited(StoreCall::Write, begun.elapsed());
        self.run(StoreCall::Write, permit, work).await
    }

    /// Runs a write and announces its change.
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

    /// Runs a write that may change nothing, and announces its change if there is one.
    ///
    /// # Errors
    /// Those of `work`, and [`StoreError::Busy`] for owners.
    pub async fn write_optional<T, F>(
        &self,
        writer: Writer<'_>,
        work: F,
    ) -> Result<Option<Committed<T>>>
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

    /// The counters of calls.
    #[must_use]
    pub fn metrics(&self) -> &StoreMetrics {
        &self.metrics
    }

    /// The connections of the store, if it has a pool of them.
    #[must_use]
    pub fn pool(&self) -> Option<PoolUse> {
        self.store.pool()
    }

    async fn turn(&self, call: StoreCall, turns: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit> {
        let begun = Instant::now();
        let permit = Arc::clone(turns).acquire_owned().await.map_err(unavailable)?;
        self.metrics.waited(call, begun.elapsed());
        Ok(permit)
    }

    /// Holds `permit` until `work` has ended, even if the caller stops waiting.
    async fn run<T, F>(&self, call: StoreCall, permit: impl Send + 'static, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Store) -> Result<T> + Send + 'static,
    {
        let store = Arc::clone(&self.store);
        let metrics = self.metrics.clone();
        // Counted on its thread, because the caller may stop waiting.
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let begun = Instant::now();
            let result = work(store.as_ref());
            metrics.ended(call, begun.elapsed(), &result);
            result
        });
        done.await.map_err(unavailable)?
    }
}

fn unavailable(error: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Unavailable(Box::new(error))
}
