//! Change propagation: how a committed change reaches everybody who caches or awaits what it changed.
//!
//! ```text
//! write ──► Db ──► store: the change gets revision N and an entry in the change log
//!            │
//!            └──► Revisions: N is the newest ──┬──► change feed: polls of gateways
//!                    ▲                         ├──► sandbox waiters: polls of one sandbox's sidecar
//! other_processes ───┘                         └──► calls that wait for a sandbox's state
//!
//! watcher: poll with `since` = N ──► Watchers: N is applied ──► `wait_until_applied(N)` returns
//! ```
//!
//! A watcher has *applied* a revision when it no longer uses a cache entry that a change up to this revision made
//! outdated. It states this with its next poll.
//!
//! The command line may write to the database too, and so may other servers ([`replicas`]). Only [`other_processes`]
//! depends on how a database shows the commits of another process: SQLite has to be polled, and PostgreSQL announces
//! them. Watchers are known only to the process that they poll.

mod other_processes;
mod replicas;
mod revisions;
mod sandbox_waiters;
mod watchers;

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;

use self::replicas::Others;
use self::revisions::Revisions;
pub use self::sandbox_waiters::SandboxWaiter;
use self::sandbox_waiters::SandboxWaiters;
use self::watchers::Watchers;
pub use self::watchers::{MAX_NAME, Poll, TooManyWatchers, Watching};
use crate::db::Db;
use crate::metrics::FeedMetrics;
use crate::model::SandboxId;
use crate::store::{ChangesSince, Result, Revision, Store, StoreError};

/// Propagates the changes of one database to everybody who follows them. Clones share the database and the
/// followers.
#[derive(Clone)]
pub struct Propagation {
    db: Db,
    revisions: Revisions,
    sandboxes: SandboxWaiters,
    watchers: Watchers,
    metrics: FeedMetrics,
    others: Others,
    in_contact: Arc<watch::Sender<bool>>,
}

impl Propagation {
    /// Announces every change that is written through [`Self::db`].
    ///
    /// # Errors
    /// The store can't be read.
    pub fn new(store: Arc<dyn Store>) -> Result<Self> {
        let newest = store.revision()?;
        let revisions = Revisions::new(newest);
        let committed = revisions.clone();
        let db = Db::new(store, move |revision| committed.announce(revision));
        Ok(Self {
            db,
            revisions,
            sandboxes: SandboxWaiters::default(),
            watchers: Watchers::default(),
            metrics: FeedMetrics::default(),
            others: Others::new(newest),
            in_contact: Arc::new(watch::Sender::new(true)),
        })
    }

    /// A handle on the same propagation, with [`Db::with_own_readers`].
    #[must_use]
    pub fn with_own_readers(&self) -> Self {
        Self { db: self.db.with_own_readers(), ..self.clone() }
    }

    #[must_use]
    pub fn db(&self) -> &Db {
        &self.db
    }

    /// The counters of waits.
    #[must_use]
    pub fn metrics(&self) -> &FeedMetrics {
        &self.metrics
    }

    /// The live watchers.
    #[must_use]
    pub fn watching(&self) -> Watching {
        self.watchers.watching(self.newest())
    }

    /// The newest revision that this process knows.
    #[must_use]
    pub fn newest(&self) -> Revision {
        self.revisions.newest()
    }

    /// Returns a receiver that changes with every revision.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Revision> {
        self.revisions.subscribe()
    }

    /// Returns a receiver of whether this process knows the changes of other processes. If it does not, its knowledge is
    /// outdated, and nobody may rely on it.
    #[must_use]
    pub fn contact(&self) -> watch::Receiver<bool> {
        self.in_contact.subscribe()
    }

    /// Runs a query whose result may be relied on only while this process is in contact, and fails as soon as it is not.
    /// The query of a database that hangs fails much later itself.
    ///
    /// # Errors
    /// Those of `query`, and [`StoreError::Unavailable`] out of contact.
    pub async fn while_in_contact<T>(&self, query: impl Future<Output = Result<T>>) -> Result<T> {
        let mut contact = self.contact();
        tokio::select! {
            biased;
            _ = contact.wait_for(|in_contact| !*in_contact) => {
                let reason = "the database does not answer, so changes of other replicas are not known";
                Err(StoreError::Unavailable(reason.into()))
            }
            answer = query => answer,
        }
    }

    /// Returns a waiter that wakes with each change of one sandbox.
    #[must_use]
    pub fn subscribe_to_sandbox(&self, id: &SandboxId) -> SandboxWaiter {
        self.sandboxes.wait_for(id)
    }

    /// Returns up to `limit` changes after `since`. If `since` is `None` (no revision, or one of another store), the
    /// result is `Unknown`.
    ///
    /// # Errors
    /// The store can't be read.
    pub async fn since(&self, since: Option<Revision>, limit: usize) -> Result<ChangesSince> {
        match since {
            Some(since) => self.db.read(move |store| store.changes_since(since, limit)).await,
            None => self.db.read(|store| store.revision().map(ChangesSince::Unknown)).await,
        }
    }

    /// Records that the watcher `watcher` polls and has applied everything up to `applied`. The
    /// result must live as long as the poll.
    ///
    /// # Errors
    /// [`TooManyWatchers`]
    pub fn open_poll(&self, watcher: &str, applied: Revision) -> Result<Poll, TooManyWatchers> {
        self.watchers.open(watcher, applied)
    }

    /// Waits until all live watchers of all live replicas have applied `revision`, for at most
    /// [`APPLY_TIMEOUT`](watchers::APPLY_TIMEOUT). A handler calls this before it answers. Usually all new requests
    /// are then decided with the change; after a time-out, the caller is answered anyway.
    pub async fn wait_until_applied(&self, revision: Revision) {
        let begun = Instant::now();
        let deadline = begun + watchers::APPLY_TIMEOUT;
        let mut applied = self.watchers.wait_until_applied(revision).await;
        if applied && self.db.is_shared() {
            applied = self.others.wait_until_applied(&self.db, revision, deadline).await;
        }
        self.metrics.waited(begun.elapsed(), applied);
        if !applied {
            tracing::warn!(revision, "a gateway is slow to apply a change");
        }
    }

    /// Finds the commits of other processes, wakes those who wait for a sandbox, and records for other processes
    /// which revisions all gateways have applied. Runs until it is dropped; no change after this call is
    /// missed.
    pub fn propagate(&self) -> impl Future<Output = ()> + Send + use<> {
        let (waiters, own) = (self.wake_sandbox_waiters(), self.with_own_readers());
        async move {
            tokio::join!(waiters, own.find_other_commits(), own.record_applied(), own.keep_alive());
        }
    }

    /// The part of [`Self::propagate`] that wakes those who wait for a sandbox.
    pub fn wake_sandbox_waiters(&self) -> impl Future<Output = ()> + Send + use<> {
        self.sandboxes.clone().follow(self.db.with_own_readers(), &self.revisions)
    }

    /// The part of [`Self::propagate`] that finds the commits of other processes.
    pub async fn find_other_commits(&self) {
        other_processes::find_commits(&self.db, &self.revisions, &self.in_contact).await;
    }

    async fn keep_alive(&self) {
        if self.db.is_shared() {
            replicas::keep_alive(&self.db, &self.revisions, &self.watchers).await;
        }
    }

    async fn record_applied(&self) {
        other_processes::record_applied(&self.db, &self.revisions, &self.watchers).await;
    }
}
