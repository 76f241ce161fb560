//! A cache of lookup results, bounded in time and size.
//!
//! Time is a parameter, in milliseconds of one monotonic clock. An entry is fresh for some time. After that it is kept
//! for the case that the control plane is unavailable. If the cache is full, the least recently used entry is removed.
//! Clients can request any number of keys that do not exist, so negative entries are removed before positive ones.

use std::borrow::Borrow;
use std::collections::BTreeMap;

use super::config::Limits;

/// The lifetimes of the entries of one cache, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    /// The lifetime of a positive entry while the change feed works.
    pub positive: u64,
    /// The lifetime of a negative entry.
    pub negative: u64,
    /// The maximum lifetime of any entry while the change feed does not work.
    pub no_feed: u64,
    /// The lifetime of a positive entry while the control plane is unavailable.
    pub stale: u64,
}

impl Lifetimes {
    /// The lifetimes in the cache of sandboxes.
    #[must_use]
    pub fn of_sandboxes(limits: &Limits) -> Self {
        Self::new(limits, limits.stale_sandbox_ms)
    }

    /// The lifetimes in the cache of credentials.
    #[must_use]
    pub fn of_credentials(limits: &Limits) -> Self {
        Self::new(limits, limits.stale_credential_ms)
    }

    fn new(limits: &Limits, stale_ms: u32) -> Self {
        Self {
            positive: limits.positive_ttl_ms.into(),
            negative: limits.negative_ttl_ms.into(),
            no_feed: limits.no_feed_ttl_ms.into(),
            stale: stale_ms.into(),
        }
    }
}

/// The number of repeated lookups that denials may cause for one entry in a burst.
const RECHECKS: u32 = 4;
/// The interval after which one more repeated lookup is allowed, in milliseconds.
const RECHECK_INTERVAL: u64 = 500;

/// The cached result of one lookup.
#[derive(Clone, Debug)]
pub struct Entry<V> {
    value: Option<V>,
    sent_at: u64,
    last_use: u64,
    rechecks: u32,
    rechecks_since: u64,
}

impl<V> Entry<V> {
    /// The value, or `None` for a negative entry: the key does not exist.
    pub fn value(&self) -> Option<&V> {
        self.value.as_ref()
    }

    /// The time at which the lookup was sent. Changes after that time may be missing from the value.
    pub fn sent_at(&self) -> u64 {
        self.sent_at
    }
}

/// A bounded map from keys to lookup results.
///
/// It uses ordered maps instead of hash maps: clients choose the keys, and a filter has no secret seed for a hash.
#[derive(Debug)]
pub struct Cache<K, V> {
    entries: BTreeMap<K, Entry<V>>,
    /// The keys of positive entries, by last use.
    positive: BTreeMap<u64, K>,
    /// The keys of negative entries, by last use.
    negative: BTreeMap<u64, K>,
    /// The number of uses so far, which orders the entries by last use.
    uses: u64,
    capacity: usize,
    lifetimes: Lifetimes,
}

impl<K: Clone + Ord, V> Cache<K, V> {
    /// Creates an empty cache of at most `capacity` entries.
    #[must_use]
    pub fn new(capacity: usize, lifetimes: Lifetimes) -> Self {
        Self {
            entries: BTreeMap::new(),
            positive: BTreeMap::new(),
            negative: BTreeMap::new(),
            uses: 0,
            capacity: capacity.max(1),
            lifetimes,
        }
    }

    /// The entry, if it can be used without a lookup.
    ///
    /// The change feed has reported all changes after `covered_since`, which is `None` while the feed does not work.
    /// `arrived_at` is the time at which the request arrived; for a live stream, the time at which it was marked. An
    /// entry whose lookup was sent at that time or later is always fresh, however long the response took.
    pub fn fresh<Q: Ord + ?Sized>(
        &mut self,
        key: &Q,
        now: u64,
        covered_since: Option<u64>,
        arrived_at: u64,
    ) -> Option<&Entry<V>>
    where
        K: Borrow<Q>,
    {
        let lifetimes = self.lifetimes;
        let entry = self.touch(key)?;
        let lifetime = match entry.value {
            Some(_) => lifetimes.positive,
            None => lifetimes.negative,
        };
        let covered = covered_since.is_some_and(|start| entry.sent_at >= start);
        let lifetime = if covered { lifetime } else { lifetime.min(lifetimes.no_feed) };
        let young = now.saturating_sub(entry.sent_at) < lifetime;
        (young || entry.sent_at >= arrived_at).then_some(entry)
    }

    /// The value that can be used while the control plane is unavailable. Negative entries can't be used then.
    pub fn stale<Q: Ord + ?Sized>(&mut self, key: &Q, now: u64) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let lifetimes = self.lifetimes;
        let entry = self.touch(key)?;
        let usable = now.saturating_sub(entry.sent_at) < lifetimes.stale;
        entry.value.as_ref().filter(|_| usable)
    }

    /// Stores the result of a lookup that was sent at `sent_at`. `None` is a negative entry.
    pub fn insert(&mut self, key: K, value: Option<V>, sent_at: u64) {
        let (rechecks, rechecks_since) = match self.remove(&key) {
            Some(old) => (old.rechecks, old.rechecks_since),
            None => (0, sent_at),
        };
        while self.entries.len() >= self.capacity {
            let oldest = self.negative.pop_first().or_else(|| self.positive.pop_first());
            let Some((_, oldest)) = oldest else { break };
            self.entries.remove(&oldest);
        }
        self.uses = self.uses.saturating_add(1);
        let last_use = self.uses;
        self.by_use(value.is_some()).insert(last_use, key.clone());
        let entry = Entry { value, sent_at, last_use, rechecks, rechecks_since };
        self.entries.insert(key, entry);
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
        let Some(entry) = self.entries.get_mut(key) else { return false };
        if entry.sent_at > arrived_at {
            return false;
        }
        if now.saturating_sub(entry.sent_at) >= old {
            return true;
        }
        let regained = now.saturating_sub(entry.rechecks_since) / RECHECK_INTERVAL;
        if regained > 0 {
            let regained = u32::try_from(regained).unwrap_or(u32::MAX);
            entry.rechecks = entry.rechecks.saturating_sub(regained);
            entry.rechecks_since = now;
        }
        let may = entry.rechecks < RECHECKS;
        if may {
            entry.rechecks = entry.rechecks.saturating_add(1);
        }
        may
    }

    /// Removes one entry.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<Entry<V>>
    where
        K: Borrow<Q>,
    {
        let entry = self.entries.remove(key)?;
        self.by_use(entry.value.is_some()).remove(&entry.last_use);
        Some(entry)
    }

    /// Removes all positive entries whose value is `unwanted`.
    pub fn remove_where(&mut self, mut unwanted: impl FnMut(&V) -> bool) {
        let positive = &mut self.positive;
        self.entries.retain(|_, entry| {
            let keep = !entry.value.as_ref().is_some_and(&mut unwanted);
            if !keep {
                positive.remove(&entry.last_use);
            }
            keep
        });
    }

    /// Removes all entries.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.positive.clear();
        self.negative.clear();
    }

    /// The number of entries, positive and negative.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The number of positive entries.
    #[must_use]
    pub fn positive_len(&self) -> usize {
        self.positive.len()
    }

    /// Whether the cache has no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Marks an entry as the most recently used one.
    fn touch<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&Entry<V>>
    where
        K: Borrow<Q>,
    {
        let entry = self.entries.get_mut(key)?;
        let by_use = match entry.value {
            Some(_) => &mut self.positive,
            None => &mut self.negative,
        };
        if entry.last_use != self.uses
            && let Some(key) = by_use.remove(&entry.last_use)
        {
            self.uses = self.uses.saturating_add(1);
            entry.last_use = self.uses;
            by_use.insert(entry.last_use, key);
        }
        Some(entry)
    }

    fn by_use(&mut self, is_positive: bool) -> &mut BTreeMap<u64, K> {
        match is_positive {
            true => &mut self.positive,
            false => &mut self.negative,
        }
    }
}
