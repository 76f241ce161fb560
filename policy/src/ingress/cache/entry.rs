//! The cached result of one lookup.

use std::sync::atomic::{AtomicBool, Ordering};

use super::Lifetimes;

/// The times that decide whether an entry can be used without a lookup.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// The time of the read.
    pub now: u64,
    /// The change feed has reported all changes after this time. `None` while the feed does not work.
    pub covered_since: Option<u64>,
    /// The time at which the request arrived, or at which its wait for the sandbox ended; for a live stream, the time at
    /// which it was marked.
    pub arrived_at: u64,
}

/// The cached result of one lookup. A cache and its views share it.
#[derive(Debug)]
pub struct Entry<V> {
    value: Option<V>,
    sent_at: u64,
    /// Whether it was used since it was inserted, or last chosen for removal.
    is_used: AtomicBool,
    /// Whether the cache has removed it.
    is_outdated: AtomicBool,
}

impl<V> Entry<V> {
    pub(super) fn new(value: Option<V>, sent_at: u64) -> Self {
        let (is_used, is_outdated) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { value, sent_at, is_used, is_outdated }
    }

    /// The value, or `None` for a negative entry: the key does not exist.
    pub fn value(&self) -> Option<&V> {
        self.value.as_ref()
    }

    /// The time at which the lookup was sent. Changes after that time may be missing from the value.
    pub fn sent_at(&self) -> u64 {
        self.sent_at
    }

    /// Whether the entry can be used without a lookup. An entry whose lookup was sent when the request arrived or later is
    /// always fresh, however long the response took.
    pub(super) fn is_fresh(&self, lifetimes: Lifetimes, times: Times) -> bool {
        let Times { now, covered_since, arrived_at } = times;
        let lifetime = match self.value {
            Some(_) => lifetimes.positive,
            None => lifetimes.negative,
        };
        let is_covered = covered_since.is_some_and(|start| self.sent_at >= start);
        let lifetime = if is_covered { lifetime } else { lifetime.min(lifetimes.no_feed) };
        let is_young = now.saturating_sub(self.sent_at) < lifetime;
        is_young || self.sent_at >= arrived_at
    }

    /// Marks the entry as used.
    pub(super) fn touch(&self) {
        // Threads that only read a popular entry must not take its cache line from each other.
        if !self.is_used.load(Ordering::Relaxed) {
            self.is_used.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the entry was used since the last call.
    pub(super) fn take_used(&self) -> bool {
        self.is_used.swap(false, Ordering::Relaxed)
    }

    pub(super) fn mark_outdated(&self) {
        self.is_outdated.store(true, Ordering::Release);
    }

    pub(super) fn is_outdated(&self) -> bool {
        self.is_outdated.load(Ordering::Acquire)
    }
}
