//! The store in PostgreSQL. Several processes may share it.
//!
//! A transaction that writes locks the row of `meta` first. So there is one writer at a time in the whole deployment, as in
//! SQLite: revisions grow in the order of the commits, and of several attempts at the same transition, the first one
//! succeeds and the others see its result.

mod changes;
mod clock;
mod connect;
mod listen;
mod migrate;
mod replicas;
mod session;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use deadpool_postgres::{Object, Pool, TransactionBuilder};
use futures_executor::block_on;
use tokio::runtime::{self, Runtime};
use tokio::sync::watch;
use tokio::task::unconstrained;
use tokio::time::timeout;
use tokio_postgres::IsolationLevel;

use self::clock::Clock;
use self::connect::Connector;
pub use self::connect::PostgresSettings;
use self::session::Transaction;
use super::sql::{self, Database, Session, prune, values};
use super::{Limits, PoolUse, Result, Revision, StoreError, Upkeep};
use crate::model::Timestamp;
use crate::random;

/// The longest time of one statement, on the side of this process. The database's own bounds are shorter.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(25);

/// Locks the writers' row. From then on, the transaction has no `statement_timeout`: at a synchronous standby's absence,
/// PostgreSQL would end the wait of the commit with it, and report that the commit succeeded. A failover could then lose
/// a change that edges know already, and the next change would get its revision.
const LOCK: &str = "SELECT set_config('statement_timeout', '0', true) FROM meta FOR UPDATE";

/// The most connections of a process for claims, and for what other replicas have applied.
const OWN_CONNECTIONS: usize = 4;
/// The most connections of a process for the newest revision, and for its signs of life.
const CONTACT_CONNECTIONS: usize = 2;

/// Sandgate's tables in a PostgreSQL database.
pub struct PostgresStore {
    epoch: String,
    limits: Limits,
    /// The name of this process in the table `replicas`.
    replica: String,
    pool: Pool,
    /// Connections for claims and what other replicas have applied, which must not wait for queries.
    own: Pool,
    /// Connections that show whether the database can be reached, and that this process is live. Nothing else uses them.
    contact: Pool,
    clock: Clock,
    /// Whether the database has another epoch than this process.
    is_restored: AtomicBool,
    /// The newest revision that [`ChangeLog::written_elsewhere`](super::ChangeLog::written_elsewhere) has seen.
    seen: Mutex<Revision>,
    commits: watch::Receiver<()>,
    /// Drives the connections. It is separate from the program's runtime, so a call may block any thread.
    runtime: Option<Runtime>,
}

impl PostgresStore {
    /// Connects to the database. Creates the tables if they are missing, and migrates older ones.
    ///
    /// # Errors
    /// The settings are not valid, the database can't be reached, or its tables are of a newer program.
    pub fn open(settings: &PostgresSettings) -> Result<Self> {
        let connector = Connector::new(settings)?;
        let (pool, own) = (connector.pool(settings.connections)?, connector.pool(OWN_CONNECTIONS)?);
        let contact = connector.pool(CONTACT_CONNECTIONS)?;
        let replica = random::id(16).map_err(|error| StoreError::Unavailable(Box::new(error)))?;
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("postgres")
            .enable_all()
            .build()
            .map_err(|error| StoreError::Unavailable(Box::new(error)))?;
        let opened = {
            let _context = runtime.enter();
            block_on(unconstrained(open(&pool)))
        };
        let epoch = match opened {
            Ok(epoch) => epoch,
            Err(error) => {
                // A runtime must not be dropped on a thread of another one.
                runtime.shutdown_background();
                return Err(error);
            }
        };
        let (hints, commits) = watch::channel(());
        runtime.spawn(listen::follow(connector, hints));
        Ok(Self {
            epoch,
            limits: Limits::default(),
            replica,
            pool,
            own,
            contact,
            clock: Clock::default(),
            is_restored: AtomicBool::new(false),
            seen: Mutex::new(0),
            commits,
            runtime: Some(runtime),
        })
    }

    /// Uses these limits instead of the default ones.
    #[must_use]
    pub fn within(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Blocks the thread until `call` has ended.
    fn wait<T, E>(&self, call: impl Future<Output = Result<T, E>>) -> Result<T>
    where
        StoreError: From<E>,
    {
        let _context = self.runtime.as_ref().map(Runtime::enter);
        match block_on(unconstrained(timeout(STATEMENT_TIMEOUT, call))) {
            Ok(done) => Ok(done?),
            Err(elapsed) => Err(StoreError::Unavailable(Box::new(elapsed))),
        }
    }

    /// Fails if the database has begun another history than the one that this process has opened.
    fn require_own_history(&self, epoch: &str) -> Result<()> {
        self.is_restored.store(epoch != self.epoch, Ordering::Relaxed);
        self.require_unrestored()
    }

    fn require_unrestored(&self) -> Result<()> {
        if self.is_restored.load(Ordering::Relaxed) {
            let reason = "the database was restored from a backup while this server used it; start the server again";
            return Err(StoreError::Unavailable(reason.into()));
        }
        Ok(())
    }

    /// Fails if the last look at the database has shown that this process must not use it.
    fn require_usable(&self) -> Result<()> {
        self.require_unrestored()?;
        self.clock.require_agreement()
    }

    /// Runs a transaction beside those of the writers. It must not write what they write.
    fn write_unlocked<T>(
        &self,
        pool: &Pool,
        work: impl FnOnce(&Session<'_>) -> Result<T>,
    ) -> Result<T> {
        // Whatever the database's default is: in a stricter level, transactions of two replicas fail.
        let level = IsolationLevel::ReadCommitted;
        self.on_connection(pool, |connection| {
            self.commit(connection.build_transaction().isolation_level(level), work)
        })
    }

    /// Runs a transaction that excludes all other writers of the deployment. Each statement sees everything that is
    /// committed when it begins, so all after the lock see the writes of the former writers.
    fn transact<T>(&self, work: impl FnOnce(&Session<'_>) -> Result<T>) -> Result<T> {
        self.require_usable()?;
        self.write_unlocked(&self.pool, |session| {
            session.first(LOCK, values![], |_| Ok(()))?;
            work(session)
        })
    }

    /// Runs `work` in a transaction, and commits it.
    fn commit<T>(
        &self,
        builder: TransactionBuilder<'_>,
        work: impl FnOnce(&Session<'_>) -> Result<T>,
    ) -> Result<T> {
        let transaction = Transaction { store: self, inner: self.wait(builder.start())? };
        let value = work(&transaction)?;
        self.wait(transaction.inner.commit())?;
        Ok(value)
    }

    /// Runs `work` on a connection of the pool. After a failure, the database may still work on a statement, such as a commit
    /// that waits for the synchronous standby, and the next statement of the connection would wait for that one.
    fn on_connection<T>(
        &self,
        pool: &Pool,
        work: impl FnOnce(&mut Object) -> Result<T>,
    ) -> Result<T> {
        let mut connection = self.wait(pool.get())?;
        let done = work(&mut connection);
        if matches!(done, Err(StoreError::Unavailable(_))) {
            self.return_when_idle(connection);
        }
        done
    }

    /// Returns a connection to its pool when the database has answered everything, or the connection has failed. Until then,
    /// it counts as a connection of the pool, so that commits that wait do not use up the connections of the database.
    fn return_when_idle(&self, connection: Object) {
        if let Some(runtime) = &self.runtime {
            runtime.spawn(async move {
                if let Err(error) = connection.batch_execute("").await {
                    tracing::debug!(%error, "a connection to the database has failed");
                }
            });
        }
    }
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Does not wait, because the thread may belong to another runtime.
            runtime.shutdown_background();
        }
    }
}

impl Database for PostgresStore {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn read<T>(&self, work: impl FnOnce(&Session<'_>) -> Result<T>) -> Result<T> {
        self.require_usable()?;
        let level = IsolationLevel::RepeatableRead;
        self.on_connection(&self.pool, |connection| {
            self.commit(connection.build_transaction().isolation_level(level).read_only(true), work)
        })
    }

    fn write<T>(&self, work: impl FnOnce(&Session<'_>) -> Result<T>) -> Result<T> {
        self.transact(work)
    }

    /// The space of the database is its operator's concern: nothing is reserved here.
    fn write_on_full_disk<T>(&self, work: impl Fn(&Session<'_>) -> Result<T>) -> Result<T> {
        self.transact(work)
    }
}

impl Upkeep for PostgresStore {
    fn prune_audit(&self, now: Timestamp) -> Result<bool> {
        prune(self, now)
    }

    fn begin_history(&self, now: Timestamp) -> Result<()> {
        self.transact(|tx| {
            // A server that joins waits for this transaction, and sees the new epoch then.
            if self.applied_by_others(tx)?.is_some() {
                return Err(StoreError::InUse);
            }
            sql::changes::begin_history(tx, now)
        })
    }

    /// PostgreSQL does this itself (`autovacuum`).
    fn give_back_space(&self) -> Result<bool> {
        Ok(false)
    }

    fn pool(&self) -> Option<PoolUse> {
        let status = self.pool.status();
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        Some(PoolUse {
            open: number(status.size),
            idle: number(status.available),
            awaited: number(status.waiting),
        })
    }
}

async fn open(pool: &Pool) -> Result<String> {
    let mut connection = pool.get().await?;
    let before = Timestamp::now();
    let database = Timestamp::from_millis(connection.query_one(clock::NOW, &[]).await?.try_get(0)?);
    Clock::default().compare(before, database, Timestamp::now())?;
    migrate::migrate(&mut connection, Timestamp::now()).await
}

/// The revision in `seen` is valid even if another thread panicked.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
