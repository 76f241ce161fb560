//! Several servers on one store. Each one regularly shows that it is live, with the newest revision that all its
//! watchers have applied. An owner's change is acknowledged when all live replicas have applied it.
//!
//! A replica that can't reach the store does not know the changes of the others. It is *out of contact* after
//! [`CONTACT_LIMIT`], and answers no poll of the change feed then, so gateways stop relying on the feed.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, MissedTickBehavior, timeout_at};

use super::revisions::{Revisions, raise};
use super::watchers::Watchers;
use crate::db::Db;
use crate::store::Revision;

/// The pause between two signs of life. The store counts a replica as live for 3 s.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// The pause between two queries of what the others have applied.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// How long a replica without an answer of the store relies on what it knows.
pub(super) const CONTACT_LIMIT: Duration = Duration::from_secs(2);

/// What the other replicas have applied. All waits of this process share one poller: whoever holds the lock. Clones share
/// it.
#[derive(Clone)]
pub(super) struct Others {
    /// The newest revision that all others were seen to have applied.
    applied: Arc<watch::Sender<Revision>>,
    poller: Arc<Mutex<()>>,
}

impl Others {
    /// Everything up to `revision` was committed before this process began.
    pub(super) fn new(revision: Revision) -> Self {
        Self { applied: Arc::new(watch::Sender::new(revision)), poller: Arc::default() }
    }

    /// Waits until all other live replicas have applied `revision`, at most until `deadline`. Returns whether they have.
    pub(super) async fn wait_until_applied(
        &self,
        db: &Db,
        revision: Revision,
        deadline: Instant,
    ) -> bool {
        let mut applied = self.applied.subscribe();
        let seen = async {
            tokio::select! {
                seen = applied.wait_for(|applied| *applied >= revision) => seen.is_ok(),
                polled = self.poll_until_applied(db, revision) => polled,
            }
        };
        // The database may hang.
        timeout_at(deadline, seen).await.unwrap_or(false)
    }

    /// Polls in turn with the other waits of this process.
    async fn poll_until_applied(&self, db: &Db, revision: Revision) -> bool {
        loop {
            let _poller = self.poller.lock().await;
            match db.coordinate(|store| store.others_applied()).await {
                Ok(least) => raise(&self.applied, least.unwrap_or(revision)),
                Err(error) => {
                    tracing::error!(%error, "what other replicas have applied can't be read");
                    return false;
                }
            }
            if *self.applied.borrow() >= revision {
                return true;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}

/// Shows regularly that this replica is live, until the task is dropped.
pub(super) async fn keep_alive(db: &Db, revisions: &Revisions, watchers: &Watchers) {
    let mut tick = tokio::time::interval(HEARTBEAT);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // An outage is logged once.
    let mut failed = false;
    loop {
        tick.tick().await;
        let applied = watchers.applied_by_all(revisions.newest());
        let recorded = db.keep_contact(move |store| store.record_applied(applied)).await;
        if let Err(error) = &recorded
            && !failed
        {
            tracing::error!(%error, "this replica can't show that it is live");
        }
        failed = recorded.is_err();
    }
}
