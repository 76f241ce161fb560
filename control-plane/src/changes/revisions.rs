//! The newest revision that this process knows.

use std::sync::Arc;

use tokio::sync::watch;

use crate::store::Revision;

/// Wakes subscribers when a change is committed. Clones share the subscribers.
#[derive(Clone, Debug)]
pub(super) struct Revisions {
    newest: Arc<watch::Sender<Revision>>,
    /// The newest revision that another process may have committed.
    others: Arc<watch::Sender<Revision>>,
}

impl Revisions {
    pub(super) fn new(revision: Revision) -> Self {
        Self {
            newest: Arc::new(watch::Sender::new(revision)),
            others: Arc::new(watch::Sender::new(revision)),
        }
    }

    /// Announces that this process committed `revision`. Has no effect if a newer one is known.
    pub(super) fn announce(&self, revision: Revision) {
        // Revisions have no gaps. A skipped one belongs to another process, or another task of this process
        // is about to announce it; treating that one as another process's is harmless.
        let skipped = revision > self.newest().saturating_add(1);
        raise(&self.newest, revision);
        if skipped {
            raise(&self.others, revision);
        }
    }

    /// Announces that another process committed `revision`. Has no effect if it is already known.
    pub(super) fn announce_other(&self, revision: Revision) {
        if revision > self.newest() {
            raise(&self.newest, revision);
            raise(&self.others, revision);
        }
    }

    pub(super) fn newest(&self) -> Revision {
        *self.newest.borrow()
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Revision> {
        self.newest.subscribe()
    }

    /// Subscribes to the commits of other processes only.
    pub(super) fn subscribe_others(&self) -> watch::Receiver<Revision> {
        self.others.subscribe()
    }
}

/// Replaces the revision by a newer one.
pub(super) fn raise(sender: &watch::Sender<Revision>, revision: Revision) {
    sender.send_if_modified(|newest| {
        let newer = revision > *newest;
        if newer {
            *newest = revision;
        }
        newer
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_newer_revisions_are_announced() {
        let revisions = Revisions::new(5);
        let mut waiting = revisions.subscribe();
        revisions.announce(5);
        revisions.announce(4);
        assert!(!waiting.has_changed().unwrap());
        revisions.announce(6);
        assert!(waiting.has_changed().unwrap());
        assert_eq!((*waiting.borrow_and_update(), revisions.newest()), (6, 6));
    }

    #[test]
    fn a_gap_between_own_revisions_belongs_to_another_process() {
        let revisions = Revisions::new(5);
        let mut others = revisions.subscribe_others();
        revisions.announce(6);
        assert!(!others.has_changed().unwrap());
        revisions.announce(8);
        assert!(others.has_changed().unwrap());
        assert_eq!(*others.borrow_and_update(), 8);
    }
}
