//! Commits of other processes, such as the command line or other replicas. A database server announces them. Polling
//! the database finds those whose announcement was lost, and all commits if the database announces none.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, timeout_at};

use super::replicas::CONTACT_LIMIT;
use super::revisions::Revisions;
use super::watchers::Watchers;
use crate::db::{Db, Writer};
use crate::store::{Result, Revision, Store};

/// The pause between two polls of a database without announcements. A port that the command line exposes is reachable
/// after this time.
const POLL_INTERVAL: Duration = Duration::from_millis(150);
/// The pause between two polls of a database that announces commits.
const BACKUP_INTERVAL: Duration = Duration::from_millis(500);
/// The number of waits of `APPLY_TIMEOUT` for one revision. After the last one, the revision is not recorded.
const MAX_WAITS: usize = 3;

/// Announces the commits of other processes, until the task is dropped. If the store is shared and does not answer for
/// [`CONTACT_LIMIT`], this process is out of contact until it does.
pub(super) async fn find_commits(db: &Db, revisions: &Revisions, in_contact: &watch::Sender<bool>) {
    let mut announced = db.announced_commits();
    let pause = if announced.is_some() { BACKUP_INTERVAL } else { POLL_INTERVAL };
    let mut tick = tokio::time::interval(pause);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut answered = Instant::now();
    // An outage is logged once.
    let mut failed = false;
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = next(&mut announced) => {}
        }
        // The answer may be as old as the question.
        let asked = Instant::now();
        // A failed query may have been told of a write that it did not report.
        let answer = newest(db, db.is_shared() || failed);
        let answer = if db.is_shared() {
            let deadline = (answered + CONTACT_LIMIT).max(asked + BACKUP_INTERVAL);
            timeout_at(deadline, answer).await
        } else {
            Ok(answer.await)
        };
        match answer {
            Ok(Ok(revision)) => {
                answered = asked;
                if let Some(revision) = revision {
                    revisions.announce_other(revision);
                }
                in_contact.send_if_modified(|now| !std::mem::replace(now, true));
                if std::mem::take(&mut failed) {
                    tracing::info!("the store can be polled for changes again");
                }
                continue;
            }
            Ok(Err(error)) if !failed => {
                tracing::error!(%error, "the store can't be polled for changes");
            }
            Err(_) if !failed => tracing::error!("the store does not answer"),
            Ok(Err(_)) | Err(_) => {}
        }
        failed = true;
        if db.is_shared() && answered.elapsed() >= CONTACT_LIMIT {
            in_contact.send_if_modified(|now| std::mem::replace(now, false));
        }
    }
}

/// The newest revision, if another process may have committed it, or if `always`.
async fn newest(db: &Db, always: bool) -> Result<Option<Revision>> {
    db.keep_contact(move |store| {
        if always || store.written_elsewhere()? {
            store.poll_revision().map(Some)
        } else {
            Ok(None)
        }
    })
    .await
}

/// Returns at the next announcement.
async fn next(announced: &mut Option<watch::Receiver<()>>) {
    if let Some(announced) = announced
        && announced.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// Stores which revisions of other processes all gateways have applied. The command line and other replicas wait for that.
pub(super) async fn record_applied(db: &Db, revisions: &Revisions, watchers: &Watchers) {
    let mut others = revisions.subscribe_others();
    while others.changed().await.is_ok() {
        let revision = *others.borrow_and_update();
        for _ in 0..MAX_WAITS {
            if !watchers.wait_until_applied(revision).await {
                continue;
            }
            let record = move |store: &dyn Store| store.record_applied(revision);
            let recorded = if db.is_shared() {
                db.keep_contact(record).await
            } else {
                db.write_unannounced(Writer::Server, record).await
            };
            if let Err(error) = recorded {
                tracing::error!(%error, "an applied revision could not be recorded");
            }
            break;
        }
    }
}
