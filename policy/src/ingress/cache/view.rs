//! What one thread has used of a cache.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::{Cache, Entry, Lifetimes, Times};

/// The number of entries that are checked when another one is added. With two, the outdated entries are never more than
/// the others, and no single addition takes long.
const CHECKS_PER_ENTRY: usize = 2;

/// The entries of a [`Cache`] that one thread has used, which it reads without a lock. A view has no entries of its own:
/// what the cache has removed, the view no longer returns.
#[derive(Debug)]
pub struct View<K, V> {
    entries: BTreeMap<K, Arc<Entry<V>>>,
    lifetimes: Lifetimes,
    /// The last key that was checked. The next check continues behind it.
    checked: Option<K>,
}

impl<K: Clone + Ord, V> View<K, V> {
    /// Creates an empty view of a cache with these lifetimes.
    #[must_use]
    pub fn new(lifetimes: Lifetimes) -> Self {
        Self { entries: BTreeMap::new(), lifetimes, checked: None }
    }

    /// The entry, if the view holds it and it can be used without a lookup: see [`Entry::is_fresh`].
    ///
    /// [`Times::covered_since`] must be read before this call. Otherwise the feed could report a change of the entry and begin to
    /// work between the two reads, and an entry from before the change would count as covered.
    pub fn fresh<Q: Ord + ?Sized>(&self, key: &Q, times: Times) -> Option<&Entry<V>>
    where
        K: Borrow<Q>,
    {
        let entry = self.entries.get(key)?;
        if entry.is_outdated() || !entry.is_fresh(self.lifetimes, times) {
            return None;
        }
        entry.touch();
        Some(entry)
    }

    /// Takes an entry over from the cache, if it can be used without a lookup.
    pub fn take_over<'a, Q: Ord + ?Sized>(
        &mut self,
        cache: &'a Cache<K, V>,
        key: &Q,
        times: Times,
    ) -> Option<&'a Entry<V>>
    where
        K: Borrow<Q>,
    {
        let (key, slot) = cache.slots.get_key_value(key)?;
        let entry = &slot.entry;
        if !entry.is_fresh(self.lifetimes, times) {
            return None;
        }
        entry.touch();
        self.remove_some_outdated();
        self.entries.insert(key.clone(), Arc::clone(entry));
        Some(entry)
    }

    /// Removes the outdated ones of the next entries.
    fn remove_some_outdated(&mut self) {
        for _ in 0..CHECKS_PER_ENTRY {
            let start = self.checked.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
            let next = self.entries.range((start, Bound::Unbounded)).next();
            let Some((key, entry)) = next.map(|(key, entry)| (key.clone(), entry)) else {
                self.checked = None;
                return;
            };
            if entry.is_outdated() {
                self.entries.remove(&key);
            }
            self.checked = Some(key);
        }
    }

    /// Removes all entries.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.checked = None;
    }

    /// The number of entries, including outdated ones.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}
