//! Several servers on one store. Each one regularly shows that it is live, with the newest revision that all its
//! watchers have applied. An owner's change is acknowledged when all live replicas have applied it.
//!
//! A replica that can't reach the store does not know the changes of the others. It is *out of contact* after
//! [`CONTACT_LIMIT`], and answers no poll of the change feed then, so gateways stop relying on the feed.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, timeout_at};

use super::revisions::Revisions;
use super::watchers::Watchers;
use crate::db::Db;
use crate::store::Revision;

/// The pause between two signs of life. The store counts a replica as live for 3 s.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// The pause between two queries of what the others have applied.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// How long a replica without an answer of the store relies on what it knows.
pub(super) const CONTACT_LIMIT: Duration = Duration::from_secs(2);

/// Waits until all other live replicas have applied `revision`, at most until `deadline`. Returns whether they have.
pub(super) async fn wait_for_others(db: &Db, revision: Revision, deadline: Instant) -> bool {
    loop {
        let behind = db.coordinate(move |store| store.others_behind(revision));
        match timeout_at(deadline, behind).await {
            Ok(Ok(0)) => return true,
            Ok(Ok(_)) => {}
            // The database hangs.
            Err(_) => return false,
            Ok(Err(error)) => {
                tracing::error!(%error, "what other replicas have applied can't be read");
                return false;
            }
        }
        if Instant::now() + POLL_INTERVAL >= deadline {
            return false;
        }
        tokio::time::sleep(POLL_INTERVAL).await;
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
