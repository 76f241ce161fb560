//! The newest revision as this process knows it, for those who wait for a change.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::db::Db;
use crate::store::Revision;

/// How often the store is asked whether another process wrote. A port that the command line
/// exposes works within this time.
const POLL_INTERVAL: Duration = Duration::from_millis(150);

/// Wakes waiters when a change is committed.
#[derive(Clone, Debug)]
pub struct Feed {
    newest: Arc<watch::Sender<Revision>>,
    foreign: Arc<watch::Sender<Revision>>,
}

impl Feed {
    /// A feed that starts at `revision`.
    #[must_use]
    pub fn new(revision: Revision) -> Self {
        Self {
            newest: Arc::new(watch::Sender::new(revision)),
            foreign: Arc::new(watch::Sender::new(revision)),
        }
    }

    /// Announces that this process committed `revision`. Older ones are ignored.
    pub fn publish(&self, revision: Revision) {
        // Each change has the next number: what was skipped is another process's, or will be
        // announced by another task in a moment, and taking that for foreign does no harm.
        let skipped = revision > self.newest().saturating_add(1);
        raise(&self.newest, revision);
        if skipped {
            raise(&self.foreign, revision);
        }
    }

    /// The newest revision.
    #[must_use]
    pub fn newest(&self) -> Revision {
        *self.newest.borrow()
    }

    /// To wait for newer ones.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Revision> {
        self.newest.subscribe()
    }

    /// To wait for what other processes commit.
    #[must_use]
    pub fn subscribe_foreign(&self) -> watch::Receiver<Revision> {
        self.foreign.subscribe()
    }
}

fn raise(sender: &watch::Sender<Revision>, revision: Revision) {
    sender.send_if_modified(|held| {
        let newer = revision > *held;
        if newer {
            *held = revision;
        }
        newer
    });
}

/// Notices what other processes write and announces it, until the task is dropped.
pub async fn follow(db: Db) {
    let mut tick = tokio::time::interval(POLL_INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let found = db
            .read(
                |store| {
                    if store.written_elsewhere()? { store.revision().map(Some) } else { Ok(None) }
                },
            )
            .await;
        match found {
            Ok(Some(revision)) if revision > db.feed().newest() => {
                raise(&db.feed().newest, revision);
                raise(&db.feed().foreign, revision);
            }
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "the store can't be asked for changes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_newer_revisions_are_announced() {
        let feed = Feed::new(5);
        let mut waiting = feed.subscribe();
        feed.publish(5);
        feed.publish(4);
        assert!(!waiting.has_changed().unwrap());
        feed.publish(6);
        assert!(waiting.has_changed().unwrap());
        assert_eq!((*waiting.borrow_and_update(), feed.newest()), (6, 6));
    }

    #[test]
    fn a_gap_between_own_changes_is_another_processs_doing() {
        let feed = Feed::new(5);
        let mut foreign = feed.subscribe_foreign();
        feed.publish(6);
        assert!(!foreign.has_changed().unwrap());
        feed.publish(8);
        assert!(foreign.has_changed().unwrap());
        assert_eq!(*foreign.borrow_and_update(), 8);
    }
}
