//! What a filter may still believe of something it once asked, bounded in time and number.
//!
//! Time is a parameter: milliseconds of one monotonic clock. An entry is believed for a while,
//! kept a while longer for the case that the control plane can't be asked, and the least recently
//! used one makes room for a new one. What does not exist is anything that a client can think of,
//! so it makes room for what exists and never the other way round.

use std::collections::BTreeMap;

use super::config::Limits;

/// How long entries of one cache are believed, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    /// What exists, while the change feed works.
    pub positive: u64,
    /// What does not exist.
    pub negative: u64,
    /// Anything, while the change feed does not work.
    pub no_feed: u64,
    /// What exists, while the control plane can't be asked.
    pub stale: u64,
}

impl Lifetimes {
    /// For sandboxes.
    #[must_use]
    pub fn of_sandboxes(limits: &Limits) -> Self {
        Self::new(limits, limits.stale_sandbox_ms)
    }

    /// For credentials.
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

/// Second questions that a denial may ask about one entry: so many at once…
const RECHECKS: u32 = 4;
/// …and one more each time this long has passed, in milliseconds.
const RECHECK_INTERVAL: u64 = 500;

/// What is known of one key.
#[derive(Clone, Debug)]
pub struct Entry<V> {
    value: Option<V>,
    asked_at: u64,
    stamp: u64,
    rechecks: u32,
    rechecks_since: u64,
}

impl<V> Entry<V> {
    /// What the control plane said; `None`: it does not exist.
    pub fn value(&self) -> Option<&V> {
        self.value.as_ref()
    }

    /// When the question was asked, not when it was answered: whatever changed after is not in it.
    pub fn asked_at(&self) -> u64 {
        self.asked_at
    }
}

/// A bounded map from keys that clients choose to what the control plane said of them.
///
/// Ordered maps, because a filter has no secret to seed a hash with and clients choose the keys.
#[derive(Debug)]
pub struct Cache<K, V> {
    entries: BTreeMap<K, Entry<V>>,
    /// Keys of what exists, by their last use.
    existing: BTreeMap<u64, K>,
    /// Keys of what does not exist, by their last use.
    missing: BTreeMap<u64, K>,
    clock: u64,
    capacity: usize,
    lifetimes: Lifetimes,
}

impl<K: Clone + Ord, V> Cache<K, V> {
    /// An empty cache of at most `capacity` entries.
    #[must_use]
    pub fn new(capacity: usize, lifetimes: Lifetimes) -> Self {
        Self {
            entries: BTreeMap::new(),
            existing: BTreeMap::new(),
            missing: BTreeMap::new(),
            clock: 0,
            capacity: capacity.max(1),
            lifetimes,
        }
    }

    /// What may be believed without asking.
    ///
    /// `covered_since`: whatever changed after it, the change feed has told of; `None` while it does
    /// not work. A request that came at `since` believes an answer to a question asked later,
    /// however long the answer took.
    pub fn fresh(
        &mut self,
        key: &K,
        now: u64,
        covered_since: Option<u64>,
        since: u64,
    ) -> Option<&Entry<V>> {
        let life = self.lifetimes;
        let entry = self.touch(key)?;
        let alive = match entry.value {
            Some(_) => life.positive,
            None => life.negative,
        };
        let covered = covered_since.is_some_and(|since| entry.asked_at >= since);
        let alive = if covered { alive } else { alive.min(life.no_feed) };
        let young = now.saturating_sub(entry.asked_at) < alive;
        (young || entry.asked_at >= since).then_some(entry)
    }

    /// What may be believed when the control plane can't be asked: only what exists.
    pub fn stale(&mut self, key: &K, now: u64) -> Option<&V> {
        let life = self.lifetimes;
        let entry = self.touch(key)?;
        let usable = now.saturating_sub(entry.asked_at) < life.stale;
        entry.value.as_ref().filter(|_| usable)
    }

    /// Keeps an answer to a question asked at `asked_at`.
    pub fn insert(&mut self, key: K, value: Option<V>, asked_at: u64) {
        let (rechecks, rechecks_since) = match self.remove(&key) {
            Some(old) => (old.rechecks, old.rechecks_since),
            None => (0, asked_at),
        };
        while self.entries.len() >= self.capacity {
            let oldest = self.missing.pop_first().or_else(|| self.existing.pop_first());
            let Some((_, oldest)) = oldest else { break };
            self.entries.remove(&oldest);
        }
        self.clock = self.clock.saturating_add(1);
        let stamp = self.clock;
        self.by_use(value.is_some()).insert(stamp, key.clone());
        let entry = Entry { value, asked_at, stamp, rechecks, rechecks_since };
        self.entries.insert(key, entry);
    }

    /// Whether a denial that rests on this entry may ask once more: it was asked before the
    /// request came, and not too many have done so of late. Counts as done when it may.
    ///
    /// What exists is asked for again in any case when it is as old as what does not exist may
    /// become, so that the time and order of denials do not tell which of the two it is.
    pub fn may_recheck(&mut self, key: &K, request_at: u64, now: u64) -> bool {
        let old = self.lifetimes.negative;
        let Some(entry) = self.entries.get_mut(key) else { return false };
        if entry.asked_at > request_at {
            return false;
        }
        if now.saturating_sub(entry.asked_at) >= old {
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

    /// Forgets one key.
    pub fn remove(&mut self, key: &K) -> Option<Entry<V>> {
        let entry = self.entries.remove(key)?;
        self.by_use(entry.value.is_some()).remove(&entry.stamp);
        Some(entry)
    }

    /// Forgets every entry whose value is `unwanted`.
    pub fn remove_where(&mut self, mut unwanted: impl FnMut(&V) -> bool) {
        let existing = &mut self.existing;
        self.entries.retain(|_, entry| {
            let keep = !entry.value.as_ref().is_some_and(&mut unwanted);
            if !keep {
                existing.remove(&entry.stamp);
            }
            keep
        });
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.existing.clear();
        self.missing.clear();
    }

    /// Entries held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Marks an entry as just used.
    fn touch(&mut self, key: &K) -> Option<&Entry<V>> {
        let entry = self.entries.get_mut(key)?;
        let by_use = match entry.value {
            Some(_) => &mut self.existing,
            None => &mut self.missing,
        };
        if entry.stamp != self.clock
            && let Some(key) = by_use.remove(&entry.stamp)
        {
            self.clock = self.clock.saturating_add(1);
            entry.stamp = self.clock;
            by_use.insert(entry.stamp, key);
        }
        Some(entry)
    }

    fn by_use(&mut self, exists: bool) -> &mut BTreeMap<u64, K> {
        match exists {
            true => &mut self.existing,
            false => &mut self.missing,
        }
    }
}
