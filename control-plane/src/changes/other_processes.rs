//! Commits of other processes, such as the command line or other replicas. A database server announces them. Polling
//! the database finds those whose announcement was lost, and all commits if the database announces none.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::revisions::Revisions;
use super::watchers::Watchers;
use crate::db::{Db, Writer};
use crate::store::Revision;

/// The pause between two polls of a database without announcements. A port that the command line exposes is reachable
/// after this time.
const POLL_INTERVAL: Duration = Duration::from_millis(150);
/// The pause between two polls of a database that announces commits.
const BACKUP_INTERVAL: Duration = Duration::from_millis(500);
/// The number of waits of `APPLY_TIMEOUT` for one revision. After the last one, the revision is not recorded.
const MAX_WAITS: usize = 3;

/// Announces the commits of other processes, until the task is dropped.
pub(super) async fn find_commits(db: &Db, revisions: &Revisions) {
    let mut announced = db.announced_commits();
    let pause = if announced.is_some() { BACKUP_INTERVAL } else { POLL_INTERVAL };
    let mut tick = tokio::time::interval(pause);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            revision = next(&mut announced) => {
                revisions.announce_other(revision);
                continue;
            }
        }
        let found = db
            .read(
                |store| {
                    if store.written_elsewhere()? { store.revision().map(Some) } else { Ok(None) }
                },
            )
            .await;
        match found {
            Ok(Some(revision)) => revisions.announce_other(revision),
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "the store can't be polled for changes"),
        }
    }
}

/// The next announced revision.
async fn next(announced: &mut Option<watch::Receiver<Revision>>) -> Revision {
    if let Some(announced) = announced
        && announced.changed().await.is_ok()
    {
        return *announced.borrow_and_update();
    }
    std::future::pending().await
}

/// Stores which revisions of other processes all gateways have applied. The command line waits for that.
pub(super) async fn record_applied(db: &Db, revisions: &Revisions, watchers: &Watchers) {
    let mut others = revisions.subscribe_others();
    while others.changed().await.is_ok() {
        let revision = *others.borrow_and_update();
        for _ in 0..MAX_WAITS {
            if !watchers.wait_until_applied(revision).await {
                continue;
            }
            let recorded =
                db.write_unannounced(Writer::Server, move |store| store.record_applied(revision));
            if let Err(error) = recorded.await {
                tracing::error!(%error, "an applied revision could not be recorded");
            }
            break;
        }
    }
}
