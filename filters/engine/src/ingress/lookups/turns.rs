//! Whose turn it is: of those who have something to send, the one with the fewest in flight.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// The turns of clients, or of projects. All operations take logarithmic time, because an attacker can be many clients.
pub(super) struct Turns<K> {
    /// How many of each are in flight. No number is 0.
    in_flight: BTreeMap<K, usize>,
    /// Those who have something to send, after the number that they have in flight.
    waiting: BTreeSet<(usize, K)>,
    /// The one whose turn was last. Among those with equally many in flight, the next in order is served, so that the order
    /// gives nobody an advantage.
    served: Option<K>,
}

impl<K> Default for Turns<K> {
    fn default() -> Self {
        Self { in_flight: BTreeMap::new(), waiting: BTreeSet::new(), served: None }
    }
}

impl<K: Clone + Ord> Turns<K> {
    fn count(&self, key: &K) -> usize {
        self.in_flight.get(key).copied().unwrap_or(0)
    }

    /// The one has something to send.
    pub(super) fn wait(&mut self, key: &K) {
        self.waiting.insert((self.count(key), key.clone()));
    }

    /// The one has nothing to send any more.
    pub(super) fn stop_waiting(&mut self, key: &K) {
        self.waiting.remove(&(self.count(key), key.clone()));
    }

    /// The smallest number in flight of those who have something to send.
    pub(super) fn fewest_in_flight(&self) -> Option<usize> {
        self.waiting.first().map(|(count, _)| *count)
    }

    /// Takes the turn of the next one. It has one more in flight, and still something to send.
    pub(super) fn next(&mut self) -> Option<K> {
        let (fewest, first) = self.waiting.first()?;
        let after_served = self.served.clone().and_then(|served| {
            let after = (Bound::Excluded((*fewest, served)), Bound::Unbounded);
            let (count, key) = self.waiting.range(after).next()?;
            (count == fewest).then_some(key)
        });
        let key = after_served.unwrap_or(first).clone();
        self.served = Some(key.clone());
        self.set(&key, usize::saturating_add);
        Some(key)
    }

    /// One that was in flight has ended.
    pub(super) fn end(&mut self, key: &K) {
        self.set(key, usize::saturating_sub);
    }

    fn set(&mut self, key: &K, change: fn(usize, usize) -> usize) {
        let before = self.count(key);
        let after = change(before, 1);
        if after == 0 {
            self.in_flight.remove(key);
        } else {
            self.in_flight.insert(key.clone(), after);
        }
        if self.waiting.remove(&(before, key.clone())) {
            self.waiting.insert((after, key.clone()));
        }
    }

    /// Whether nobody has anything to send or in flight.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.in_flight.is_empty()
    }
}
