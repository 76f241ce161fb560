//! A cache of lookup results, bounded in time and size.
//!
//! Time is a parameter, in milliseconds of one monotonic clock. An entry is fresh for some time. After that it is kept
//! for the case that the control plane is unavailable.
//!
//! If the cache is full, an entry is chosen by a pseudo-random number, and removed unless it was used since it was last
//! chosen. Removing the least recently used entry would make a cache useless whose keys are requested in turn, as soon
//! as there is one key more than entries: each entry would be removed just before it is requested. Clients can request
//! any number of keys that do not exist, so negative entries are removed before positive ones, and are a fifth of the
//! capacity at most.
//!
//! One cache serves several threads, under a lock. Each thread has a [`View`] of it, which needs no lock: it holds the
//! entries that the thread has used. The cache marks an entry as outdated when it removes the entry, and no view returns
//! the entry from then on.

mod entry;
mod lifetimes;
mod view;

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::sync::Arc;

pub use self::entry::{Entry, Times};
pub use self::lifetimes::{Lifetimes, Reported};
pub use self::view::View;

/// The number of repeated lookups that denials may cause for one entry in a burst.
const RECHECKS: u32 = 4;
/// The interval after which one more repeated lookup is allowed, in milliseconds.
const RECHECK_INTERVAL: u64 = 500;

/// How often another entry is chosen for removal because the chosen one was used.
const SECOND_CHANCES: usize = 4;
/// Negative entries take this fraction of the capacity at most.
const NEGATIVE_FRACTION: usize = 5;

/// The place of one entry in the cache.
#[derive(Debug)]
struct Slot<V> {
    entry: Arc<Entry<V>>,
    /// The index of its key among the keys of positive or negative entries.
    index: usize,
    rechecks: u32,
    rechecks_since: u64,
}

/// A bounded map from keys to lookup results.
///
/// It uses an ordered map instead of a hash map: clients choose the keys, and a filter has no secret seed for a hash.
#[derive(Debug)]
pub struct Cache<K, V> {
    slots: BTreeMap<K, Slot<V>>,
    /// The keys of positive entries, in no order.
    positive: Vec<K>,
    /// The keys of negative entries, in no order.
    negative: Vec<K>,
    random: u64,
    capacity: usize,
    lifetimes: Lifetimes,
}

impl<K: Clone + Ord, V> Cache<K, V> {
    /// Creates an empty cache of at most `capacity` entries.
    #[must_use]
    pub fn new(capacity: usize, lifetimes: Lifetimes) -> Self {
        Self {
            slots: BTreeMap::new(),
            positive: Vec::new(),
            negative: Vec::new(),
            random: 1,
            capacity: capacity.max(1),
            lifetimes,
        }
    }

    /// The entry, if it can be used without a lookup: see [`Entry::is_fresh`].
    pub fn fresh<Q: Ord + ?Sized>(&self, key: &Q, times: Times) -> Option<&Entry<V>>
    where
        K: Borrow<Q>,
    {
        let entry = &self.slots.get(key)?.entry;
        entry.touch();
        entry.is_fresh(self.lifetimes, times).then_some(entry)
    }

    /// The value that can be used while the control plane is unavailable. Negative entries can't be used then. The age of
    /// an entry counts from the last time at which it was known to be valid.
    pub fn stale<Q: Ord + ?Sized>(
        &self,
        key: &Q,
        now: u64,
        reported: Option<Reported>,
    ) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let entry = &self.slots.get(key)?.entry;
        entry.touch();
        let reported = reported.filter(|it| entry.sent_at() >= it.since).map_or(0, |it| it.until);
        let usable = now.saturating_sub(entry.sent_at().max(reported)) < self.lifetimes.stale;
        entry.value().filter(|_| usable)
    }

    /// Stores the result of a lookup that was sent at `sent_at`. `None` is a negative entry.
    pub fn insert(&mut self, key: K, value: Option<V>, sent_at: u64) {
        let (rechecks, rechecks_since) = match self.take(&key) {
            Some(old) => (old.rechecks, old.rechecks_since),
            None => (0, sent_at),
        };
        let negative_capacity = self.capacity.div_ceil(NEGATIVE_FRACTION);
        if value.is_none() && self.negative.len() >= negative_capacity {
            self.evict(false);
        }
        while self.slots.len() >= self.capacity {
            self.evict(self.negative.is_empty());
        }
        let keys = match value {
            Some(_) => &mut self.positive,
            None => &mut self.negative,
        };
        let index = keys.len();
        keys.push(key.clone());
        let entry = Arc::new(Entry::new(value, sent_at));
        self.slots.insert(key, Slot { entry, index, rechecks, rechecks_since });
    }

    /// Removes a positive or a negative entry.
    fn evict(&mut self, is_positive: bool) {
        for chance in 0..=SECOND_CHANCES {
            let number = self.next_random();
            let keys = if is_positive { &self.positive } else { &self.negative };
            let index = number.checked_rem(keys.len()).unwrap_or_default();
            let Some(key) = keys.get(index).cloned() else { return };
            let is_used = self.slots.get(&key).is_some_and(|slot| slot.entry.take_used());
            if !is_used || chance == SECOND_CHANCES {
                self.remove(&key);
                return;
            }
        }
    }

    /// The next number of a sequence that only has to differ from the order of requests (xorshift64).
    fn next_random(&mut self) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        // The upper bits, also where `usize` has 32.
        usize::try_from(self.random >> 33).unwrap_or_default()
    }

    /// Whether to repeat the lookup before a denial that depends on this entry. The previous lookup must have been sent
    /// before the request arrived, and the rate of repeated lookups is limited. If the result is true, the lookup is
    /// counted against that limit.
    ///
    /// An entry that is older than the lifetime of negative entries is always looked up again, without being counted.
    /// Otherwise the time and the order of denials would reveal whether the key exists.
    pub fn take_recheck<Q: Ord + ?Sized>(&mut self, key: &Q, arrived_at: u64, now: u64) -> bool
    where
        K: Borrow<Q>,
    {
        let old = self.lifetimes.negative;
        let Some(slot) = self.slots.get_mut(key) else { return false };
        let sent_at = slot.entry.sent_at();
        if sent_at > arrived_at {
            return false;
        }
        if now.saturating_sub(sent_at) >= old {
            return true;
        }
        let regained = now.saturating_sub(slot.rechecks_since) / RECHECK_INTERVAL;
        if regained > 0 {
            let regained = u32::try_from(regained).unwrap_or(u32::MAX);
            slot.rechecks = slot.rechecks.saturating_sub(regained);
            slot.rechecks_since = now;
        }
        let may = slot.rechecks < RECHECKS;
        if may {
            slot.rechecks = slot.rechecks.saturating_add(1);
        }
        may
    }

    /// Removes one entry. Returns whether there was one.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.take(key).is_some()
    }

    fn take<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<Slot<V>>
    where
        K: Borrow<Q>,
    {
        let slot = self.slots.remove(key)?;
        slot.entry.mark_outdated();
        self.remove_key(slot.entry.value().is_some(), slot.index);
        Some(slot)
    }

    /// Removes the key at an index. The last key takes its place.
    fn remove_key(&mut self, is_positive: bool, index: usize) {
        let keys = if is_positive { &mut self.positive } else { &mut self.negative };
        if index < keys.len() {
            keys.swap_remove(index);
        }
        if let Some(moved) = keys.get(index).and_then(|key| self.slots.get_mut(key)) {
            moved.index = index;
        }
    }

    /// Removes all positive entries whose value is `unwanted`.
    pub fn remove_where(&mut self, mut unwanted: impl FnMut(&V) -> bool) {
        let is_unwanted = |(key, slot): (&K, &Slot<V>)| {
            slot.entry.value().is_some_and(&mut unwanted).then(|| key.clone())
        };
        let keys: Vec<K> = self.slots.iter().filter_map(is_unwanted).collect();
        for key in keys {
            self.remove(&key);
        }
    }

    /// Removes all entries.
    pub fn clear(&mut self) {
        self.slots.values().for_each(|slot| slot.entry.mark_outdated());
        self.slots.clear();
        self.positive.clear();
        self.negative.clear();
    }

    /// The number of entries, positive and negative.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// The number of positive entries.
    #[must_use]
    pub fn positive_len(&self) -> usize {
        self.positive.len()
    }

    /// Whether the cache has no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

/// The views must not return the entries of a cache that is gone.
impl<K, V> Drop for Cache<K, V> {
    fn drop(&mut self) {
        self.slots.values().for_each(|slot| slot.entry.mark_outdated());
    }
}
