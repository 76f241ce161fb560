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

    /// Takes the turn of the next one. It has one more in flight, and waits no more: if it has something else to send, the
    /// caller lets it wait again.
    pub(super) fn next(&mut self) -> Option<K> {
        let (fewest, key) = self.waiting.first()?;
        let after_served =
            self.served.as_ref().filter(|served| key <= *served).and_then(|served| {
                let after = (Bound::Excluded((*fewest, served.clone())), Bound::Unbounded);
                let (count, key) = self.waiting.range(after).next()?;
                (count == fewest).then_some(key)
            });
        let turn = (*fewest, after_served.unwrap_or(key).clone());
        self.waiting.remove(&turn);
        let (count, key) = turn;
        self.in_flight.insert(key.clone(), count.saturating_add(1));
        self.served = Some(key.clone());
        Some(key)
    }

    /// One that was in flight has ended.
    pub(super) fn end(&mut self, key: &K) {
        let Some(count) = self.in_flight.get_mut(key) else { return };
        let before = *count;
        *count = before.saturating_sub(1);
        let after = *count;
        if after == 0 {
            self.in_flight.remove(key);
        }
        if !self.waiting.is_empty() && self.waiting.remove(&(before, key.clone())) {
            self.waiting.insert((after, key.clone()));
        }
    }

    /// Whether nobody has anything to send or in flight.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.in_flight.is_empty()
    }
}
