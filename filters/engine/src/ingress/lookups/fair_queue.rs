//! The order in which lookups of one kind are sent: clients take turns.

use std::collections::{BTreeMap, VecDeque};

use sandgate_policy::ingress::slots::ClientAddress;

use super::key::LookupKey;
use super::turns::Turns;

/// The lookups of one kind.
pub(super) struct FairQueue {
    /// The lookups that are not sent yet, oldest first. No queue is empty.
    unsent: BTreeMap<ClientAddress, VecDeque<LookupKey>>,
    turns: Turns<ClientAddress>,
    in_flight: usize,
    /// The most lookups that may be in flight at once.
    capacity: usize,
}

impl FairQueue {
    pub(super) fn new(capacity: usize) -> Self {
        Self { unsent: BTreeMap::new(), turns: Turns::default(), in_flight: 0, capacity }
    }

    /// Whether a lookup waits and may be sent.
    pub(super) fn can_send(&self) -> bool {
        self.has_unsent() && self.in_flight < self.capacity
    }

    pub(super) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Whether no lookup waits or is in flight.
    pub(super) fn is_idle(&self) -> bool {
        self.unsent.is_empty() && self.turns.is_idle()
    }

    pub(super) fn add(&mut self, client: ClientAddress, key: LookupKey) {
        let queue = self.unsent.entry(client).or_default();
        if queue.is_empty() {
            self.turns.wait(&client);
        }
        queue.push_back(key);
    }

    /// Takes the next lookup to send: the oldest one of the client that has the fewest in flight. A flood of one
    /// client's lookups therefore delays the lookups of another client by one response at most.
    pub(super) fn next(&mut self) -> Option<LookupKey> {
        if !self.can_send() {
            return None;
        }
        let client = self.turns.next()?;
        self.in_flight = self.in_flight.saturating_add(1);
        let queue = self.unsent.get_mut(&client)?;
        let key = queue.pop_front();
        if queue.is_empty() {
            self.unsent.remove(&client);
        } else {
            self.turns.wait(&client);
        }
        key
    }

    /// Ends a lookup that [`Self::next`] returned.
    pub(super) fn done(&mut self, client: ClientAddress) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.turns.end(&client);
    }

    /// Removes a lookup that is not sent yet. Returns false if it was sent, or never added.
    pub(super) fn withdraw(&mut self, client: ClientAddress, key: &LookupKey) -> bool {
        let Some(queue) = self.unsent.get_mut(&client) else { return false };
        let before = queue.len();
        queue.retain(|unsent| unsent != key);
        let withdrawn = queue.len() < before;
        if queue.is_empty() {
            self.unsent.remove(&client);
            self.turns.stop_waiting(&client);
        }
        withdrawn
    }
}
