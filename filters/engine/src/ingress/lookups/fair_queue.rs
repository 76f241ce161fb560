//! The order in which lookups of one kind are sent: clients take turns.

use std::collections::{BTreeMap, VecDeque};

use sandgate_policy::ingress::slots::ClientAddress;

use super::key::LookupKey;

/// The lookups of one kind.
pub(super) struct FairQueue {
    /// The lookups that are not sent yet, oldest first. No queue is empty.
    unsent: BTreeMap<ClientAddress, VecDeque<LookupKey>>,
    /// How many lookups of each client are in flight. No number is 0.
    in_flight: BTreeMap<ClientAddress, usize>,
    /// The most lookups that may be in flight at once.
    capacity: usize,
    /// The client whose lookup was sent last. Among clients with equally many lookups in flight, the next
    /// address is served, so that the order of addresses gives no client an advantage.
    served: Option<ClientAddress>,
}

impl FairQueue {
    pub(super) fn new(capacity: usize) -> Self {
        Self { unsent: BTreeMap::new(), in_flight: BTreeMap::new(), capacity, served: None }
    }

    fn is_full(&self) -> bool {
        self.in_flight.values().sum::<usize>() >= self.capacity
    }

    /// Whether a lookup waits and may be sent.
    pub(super) fn can_send(&self) -> bool {
        !self.unsent.is_empty() && !self.is_full()
    }

    pub(super) fn add(&mut self, client: ClientAddress, key: LookupKey) {
        self.unsent.entry(client).or_default().push_back(key);
    }

    /// Takes the next lookup to send: the oldest one of the client that has the fewest in flight. A flood of one
    /// client's lookups therefore delays the lookups of another client by one response at most.
    pub(super) fn next(&mut self) -> Option<LookupKey> {
        if !self.can_send() {
            return None;
        }
        let count_of = |client: &ClientAddress| self.in_flight.get(client).copied().unwrap_or(0);
        let is_passed = |client: &ClientAddress| Some(*client) <= self.served;
        let client =
            *self.unsent.keys().min_by_key(|client| (count_of(client), is_passed(client)))?;
        self.served = Some(client);
        let queue = self.unsent.get_mut(&client)?;
        let key = queue.pop_front();
        if queue.is_empty() {
            self.unsent.remove(&client);
        }
        let count = self.in_flight.entry(client).or_default();
        *count = count.saturating_add(1);
        key
    }

    /// Ends a lookup that [`Self::next`] returned.
    pub(super) fn done(&mut self, client: ClientAddress) {
        if let Some(count) = self.in_flight.get_mut(&client) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.in_flight.remove(&client);
            }
        }
    }

    /// Removes a lookup that is not sent yet. Returns false if it was sent, or never added.
    pub(super) fn withdraw(&mut self, client: ClientAddress, key: &LookupKey) -> bool {
        let Some(queue) = self.unsent.get_mut(&client) else { return false };
        let before = queue.len();
        queue.retain(|unsent| unsent != key);
        let withdrawn = queue.len() < before;
        if queue.is_empty() {
            self.unsent.remove(&client);
        }
        withdrawn
    }
}
