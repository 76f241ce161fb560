//! Who follows the change feed, and how far each has come: so that a call that closes a port can
//! answer when every gateway has closed it.
//!
//! A watcher confirms a revision by polling with a `since` at or past it: a filter does that only
//! after it forgot what the change named. A watcher is *live* while it has a poll open, or was seen
//! a moment ago; only live ones are waited for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::store::Revision;

/// How long after its last poll a watcher counts as live.
pub const LIVE_FOR: Duration = Duration::from_secs(2);
/// How long a change waits for confirmations at most.
pub const CONFIRM_WITHIN: Duration = Duration::from_millis(500);
/// Watchers that are known at once: one for each worker of each Envoy.
pub const MAX_WATCHERS: usize = 4_096;
/// Characters of a watcher's name.
pub const MAX_NAME: usize = 128;

/// The followers of the change feed.
#[derive(Clone, Default)]
pub struct Watchers {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    known: Mutex<HashMap<String, Watcher>>,
    progress: Notify,
}

struct Watcher {
    open_polls: usize,
    last_seen: Instant,
    confirmed: Revision,
}

impl Watcher {
    fn is_live(&self, now: Instant) -> bool {
        self.open_polls > 0 || now.duration_since(self.last_seen) < LIVE_FOR
    }
}

/// Too many watchers are live.
#[derive(Debug, thiserror::Error)]
#[error("{MAX_WATCHERS} watchers follow the change feed already")]
pub struct TooManyWatchers;

/// An open poll. Dropping it, as a client that goes away does, closes it.
pub struct Poll {
    inner: Arc<Inner>,
    name: String,
}

impl Watchers {
    /// Notes that `name` polls, having applied everything up to `confirmed` (0: nothing).
    ///
    /// # Errors
    /// [`TooManyWatchers`], which bounds the memory that callers can take.
    pub fn open(&self, name: &str, confirmed: Revision) -> Result<Poll, TooManyWatchers> {
        let now = Instant::now();
        let mut known = self.lock();
        if known.len() >= MAX_WATCHERS && !known.contains_key(name) {
            known.retain(|_, watcher| watcher.is_live(now));
            if known.len() >= MAX_WATCHERS {
                return Err(TooManyWatchers);
            }
        }
        let watcher = known.entry(name.to_owned()).or_insert(Watcher {
            open_polls: 0,
            last_seen: now,
            confirmed,
        });
        watcher.open_polls += 1;
        watcher.last_seen = now;
        watcher.confirmed = confirmed;
        drop(known);
        self.inner.progress.notify_waiters();
        Ok(Poll { inner: Arc::clone(&self.inner), name: name.to_owned() })
    }

    /// Waits until every live watcher has confirmed `revision`, but not long. Says whether all did.
    pub async fn confirmed(&self, revision: Revision) -> bool {
        let deadline = Instant::now() + CONFIRM_WITHIN;
        loop {
            let mut progress = std::pin::pin!(self.inner.progress.notified());
            // Registers before the check, so that a poll in between is not missed.
            progress.as_mut().enable();
            let (behind, look_again) = self.behind(revision);
            if behind == 0 {
                return true;
            }
            let until = look_again.map_or(deadline, |at| at.min(deadline));
            // A time-out is no error here: the loop looks again, or the deadline has come.
            let _ = tokio::time::timeout_at(until, progress).await;
            if Instant::now() >= deadline {
                return self.behind(revision).0 == 0;
            }
        }
    }

    /// How many live watchers have not confirmed, and when the next of them stops counting as live.
    fn behind(&self, revision: Revision) -> (usize, Option<Instant>) {
        let now = Instant::now();
        let mut known = self.lock();
        known.retain(|_, watcher| watcher.is_live(now));
        let late = || known.values().filter(|watcher| watcher.confirmed < revision);
        let next_end =
            late().filter(|watcher| watcher.open_polls == 0).map(|w| w.last_seen + LIVE_FOR).min();
        (late().count(), next_end)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Watcher>> {
        self.inner.lock()
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Watcher>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Poll {
    fn drop(&mut self) {
        if let Some(watcher) = self.inner.lock().get_mut(&self.name) {
            watcher.open_polls = watcher.open_polls.saturating_sub(1);
            watcher.last_seen = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn without_watchers_nothing_is_waited_for() {
        let start = Instant::now();
        assert!(Watchers::default().confirmed(7).await);
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_watcher_that_polls_past_the_revision_confirms_it() {
        let watchers = Watchers::default();
        let poll = watchers.open("a", 6).unwrap();
        let waiting = tokio::spawn({
            let watchers = watchers.clone();
            async move { (watchers.confirmed(7).await, Instant::now()) }
        });
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!waiting.is_finished());
        drop(poll);
        let confirmed_at = Instant::now();
        let _next = watchers.open("a", 7).unwrap();
        assert_eq!(waiting.await.unwrap(), (true, confirmed_at));
    }

    #[tokio::test(start_paused = true)]
    async fn a_live_watcher_that_does_not_confirm_is_waited_for_only_so_long() {
        let watchers = Watchers::default();
        let _poll = watchers.open("a", 6).unwrap();
        let start = Instant::now();
        assert!(!watchers.confirmed(7).await);
        assert_eq!(start.elapsed(), CONFIRM_WITHIN);
    }

    #[tokio::test(start_paused = true)]
    async fn one_slow_watcher_among_quick_ones_is_waited_for() {
        let watchers = Watchers::default();
        let _quick = watchers.open("quick", 7).unwrap();
        let _slow = watchers.open("slow", 6).unwrap();
        assert!(!watchers.confirmed(7).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_poll_is_live_for_a_moment_and_then_no_longer() {
        let watchers = Watchers::default();
        drop(watchers.open("a", 6).unwrap());
        tokio::time::advance(LIVE_FOR - Duration::from_millis(100)).await;
        let start = Instant::now();
        assert!(watchers.confirmed(7).await);
        assert_eq!(start.elapsed().as_millis(), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn names_beyond_the_bound_are_refused_until_others_are_gone() {
        let watchers = Watchers::default();
        let mut polls: Vec<_> =
            (0..MAX_WATCHERS).map(|i| watchers.open(&i.to_string(), 1).unwrap()).collect();
        assert!(watchers.open("one more", 1).is_err());
        assert!(watchers.open("0", 1).is_ok());
        polls.clear();
        tokio::time::advance(LIVE_FOR).await;
        assert!(watchers.open("one more", 1).is_ok());
    }
}
