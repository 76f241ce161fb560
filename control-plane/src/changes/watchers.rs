//! The watchers of the change feed, and the revision that each has applied.
//!
//! A watcher is one engine of one worker, as the control plane sees it; it polls the change feed under its own name.
//! A poll with `since` N states that its watcher has applied everything up to N. A watcher is *live* while it
//! has an open poll and for a short time after that. Nobody waits for a watcher that is not live.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::store::Revision;

/// How long a watcher stays live after its last poll has ended. A filter whose polls fail pauses for up to 3.2 s, which
/// is longer: its worker is then not waited for. Without the feed, the routes that it has cached are used for at most
/// 5 s.
const LIVE_FOR: Duration = Duration::from_secs(2);
/// The longest wait until all live watchers have applied a revision.
pub(super) const APPLY_TIMEOUT: Duration = Duration::from_millis(500);
/// The most watchers: each worker of each Envoy has at least one.
const MAX_WATCHERS: usize = 4_096;
/// The most characters of a watcher's name.
pub const MAX_NAME: usize = 128;

/// All watchers. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Watchers {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    watchers: Mutex<HashMap<String, Watcher>>,
    /// A watcher has applied a revision.
    progress: Notify,
}

struct Watcher {
    open_polls: usize,
    /// When its last poll began or ended.
    last_poll: Instant,
    applied: Revision,
}

impl Watcher {
    fn is_live(&self, now: Instant) -> bool {
        self.open_polls > 0 || now.duration_since(self.last_poll) < LIVE_FOR
    }
}

/// The live watchers at one moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Watching {
    pub live: u64,
    /// Those that have not applied the newest revision.
    pub behind: u64,
    /// The newest revision that all of them have applied.
    pub applied_by_all: Revision,
}

/// Another watcher would exceed the bound.
#[derive(Debug, thiserror::Error)]
#[error("{MAX_WATCHERS} watchers follow the change feed already")]
pub struct TooManyWatchers;

/// An open poll of a watcher. It ends when this value is dropped.
pub struct Poll {
    shared: Arc<Shared>,
    name: String,
}

impl Watchers {
    /// Begins a poll of the watcher `name`, which has applied everything up to `applied` (0: nothing).
    ///
    /// # Errors
    /// [`TooManyWatchers`], so that callers can't take unbounded memory.
    pub(super) fn open(&self, name: &str, applied: Revision) -> Result<Poll, TooManyWatchers> {
        let now = Instant::now();
        let mut watchers = self.shared.lock();
        if watchers.len() >= MAX_WATCHERS && !watchers.contains_key(name) {
            watchers.retain(|_, watcher| watcher.is_live(now));
            if watchers.len() >= MAX_WATCHERS {
                return Err(TooManyWatchers);
            }
        }
        let watcher = watchers.entry(name.to_owned()).or_insert(Watcher {
            open_polls: 0,
            last_poll: now,
            applied,
        });
        watcher.open_polls += 1;
        watcher.last_poll = now;
        watcher.applied = applied;
        drop(watchers);
        self.shared.progress.notify_waiters();
        Ok(Poll { shared: Arc::clone(&self.shared), name: name.to_owned() })
    }

    /// Waits until every live watcher has applied `revision`, for at most [`APPLY_TIMEOUT`]. Returns whether
    /// all have.
    pub(super) async fn wait_until_applied(&self, revision: Revision) -> bool {
        let deadline = Instant::now() + APPLY_TIMEOUT;
        loop {
            let mut progress = std::pin::pin!(self.shared.progress.notified());
            // Subscribes before the check, so that no poll in between is missed.
            progress.as_mut().enable();
            let (behind, next_expiry) = self.behind(revision);
            if behind == 0 {
                return true;
            }
            let until = next_expiry.map_or(deadline, |at| at.min(deadline));
            // After a time-out, the loop checks again, or the deadline has passed.
            let _ = tokio::time::timeout_at(until, progress).await;
            if Instant::now() >= deadline {
                return self.behind(revision).0 == 0;
            }
        }
    }

    /// The newest revision up to `newest` that all live watchers have applied.
    pub(super) fn applied_by_all(&self, newest: Revision) -> Revision {
        let now = Instant::now();
        let watchers = self.shared.lock();
        let live = watchers.values().filter(|watcher| watcher.is_live(now));
        live.map(|watcher| watcher.applied).min().map_or(newest, |applied| applied.min(newest))
    }

    /// The live watchers, compared with the newest revision.
    pub(super) fn watching(&self, newest: Revision) -> Watching {
        let now = Instant::now();
        let watchers = self.shared.lock();
        let live = || watchers.values().filter(|watcher| watcher.is_live(now));
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let applied = live().map(|watcher| watcher.applied).min();
        Watching {
            live: number(live().count()),
            behind: number(live().filter(|watcher| watcher.applied < newest).count()),
            applied_by_all: applied.map_or(newest, |applied| applied.min(newest)),
        }
    }

    /// The number of live watchers that have not applied `revision`, and when the next one of them without an
    /// open poll stops being live.
    fn behind(&self, revision: Revision) -> (usize, Option<Instant>) {
        let now = Instant::now();
        let mut watchers = self.shared.lock();
        watchers.retain(|_, watcher| watcher.is_live(now));
        let behind = || watchers.values().filter(|watcher| watcher.applied < revision);
        let without_poll = behind().filter(|watcher| watcher.open_polls == 0);
        let next_expiry = without_poll.map(|watcher| watcher.last_poll + LIVE_FOR).min();
        (behind().count(), next_expiry)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Watcher>> {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Poll {
    fn drop(&mut self) {
        if let Some(watcher) = self.shared.lock().get_mut(&self.name) {
            watcher.open_polls = watcher.open_polls.saturating_sub(1);
            watcher.last_poll = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn without_watchers_there_is_no_wait() {
        let start = Instant::now();
        assert!(Watchers::default().wait_until_applied(7).await);
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_poll_at_the_revision_ends_the_wait() {
        let watchers = Watchers::default();
        let poll = watchers.open("a", 6).unwrap();
        let waiting = tokio::spawn({
            let watchers = watchers.clone();
            async move { (watchers.wait_until_applied(7).await, Instant::now()) }
        });
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!waiting.is_finished());
        drop(poll);
        let applied_at = Instant::now();
        let _next = watchers.open("a", 7).unwrap();
        assert_eq!(waiting.await.unwrap(), (true, applied_at));
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_for_a_live_watcher_that_is_behind_is_bounded() {
        let watchers = Watchers::default();
        let _poll = watchers.open("a", 6).unwrap();
        let start = Instant::now();
        assert!(!watchers.wait_until_applied(7).await);
        assert_eq!(start.elapsed(), APPLY_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn one_watcher_that_is_behind_among_others_prolongs_the_wait() {
        let watchers = Watchers::default();
        let _quick = watchers.open("quick", 7).unwrap();
        let _slow = watchers.open("slow", 6).unwrap();
        assert!(!watchers.wait_until_applied(7).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_watcher_whose_poll_ended_is_live_for_a_short_time() {
        let watchers = Watchers::default();
        drop(watchers.open("a", 6).unwrap());
        tokio::time::advance(LIVE_FOR - Duration::from_millis(100)).await;
        let start = Instant::now();
        assert!(watchers.wait_until_applied(7).await);
        assert_eq!(start.elapsed().as_millis(), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn watchers_beyond_the_bound_are_refused_until_others_expire() {
        let watchers = Watchers::default();
        let mut polls: Vec<_> =
            (0..MAX_WATCHERS).map(|i| watchers.open(&i.to_string(), 1).unwrap()).collect();
        assert!(watchers.open("another", 1).is_err());
        assert!(watchers.open("0", 1).is_ok());
        polls.clear();
        tokio::time::advance(LIVE_FOR).await;
        assert!(watchers.open("another", 1).is_ok());
    }
}
