//! The order in which lookups of one kind are sent: projects take turns, and so do the clients of each.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use sandgate_policy::ids::ProjectId;
use sandgate_policy::ingress::slots::ClientAddress;

use super::key::LookupKey;
use super::turns::Turns;

/// Whose lookup it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Owner {
    /// `None` if it is not known. All such lookups count as those of one project.
    pub(super) project: Option<ProjectId>,
    pub(super) client: ClientAddress,
}

impl Owner {
    pub(super) fn client(client: ClientAddress) -> Self {
        Self { project: None, client }
    }

    /// Live streams of all clients count as one: none of them chooses when it is re-evaluated.
    pub(super) fn live_stream() -> Self {
        Self::client(ClientAddress::Unknown)
    }
}

/// How many lookups of one project may be in flight.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Share {
    /// As many as of all projects.
    All,
    /// As many as could be sent beside them. A project alone can have half of the capacity, and there is always room for
    /// another one.
    AsManyAsAreFree,
}

/// The lookups of one kind.
pub(super) struct FairQueue {
    /// The projects that have lookups.
    projects: BTreeMap<Option<ProjectId>, Clients>,
    turns: Turns<Option<ProjectId>>,
    share: Share,
    in_flight: usize,
    /// The most lookups that may be in flight at once.
    capacity: usize,
}

/// The lookups of one project.
#[derive(Default)]
struct Clients {
    /// The lookups that are not sent yet, oldest first. No queue is empty.
    unsent: BTreeMap<ClientAddress, VecDeque<LookupKey>>,
    turns: Turns<ClientAddress>,
}

impl FairQueue {
    pub(super) fn new(capacity: usize, share: Share) -> Self {
        Self { projects: BTreeMap::new(), turns: Turns::default(), share, in_flight: 0, capacity }
    }

    /// Whether a lookup waits and may be sent.
    pub(super) fn can_send(&self) -> bool {
        let free = self.capacity.saturating_sub(self.in_flight);
        self.turns.fewest_in_flight().is_some_and(|fewest| match self.share {
            Share::All => free > 0,
            Share::AsManyAsAreFree => free > fewest,
        })
    }

    pub(super) fn add(&mut self, owner: &Owner, key: LookupKey) {
        let clients = self.projects.entry(owner.project.clone()).or_default();
        clients.unsent.entry(owner.client).or_default().push_back(key);
        clients.turns.wait(&owner.client);
        self.turns.wait(&owner.project);
    }

    /// Takes the next lookup to send: of the project that has the fewest in flight, the oldest one of the client that has
    /// the fewest. A flood of one client's lookups therefore delays the lookups of another client by one response at most.
    pub(super) fn next(&mut self) -> Option<LookupKey> {
        if !self.can_send() {
            return None;
        }
        let project = self.turns.next()?;
        self.in_flight = self.in_flight.saturating_add(1);
        let clients = self.projects.get_mut(&project)?;
        let client = clients.turns.next()?;
        let queue = clients.unsent.get_mut(&client)?;
        let key = queue.pop_front();
        let is_empty = queue.is_empty();
        if is_empty {
            self.remove_queue(&Owner { project, client });
        }
        key
    }

    /// Removes the queue of a client that has nothing unsent any more.
    fn remove_queue(&mut self, owner: &Owner) {
        let Some(clients) = self.projects.get_mut(&owner.project) else { return };
        clients.unsent.remove(&owner.client);
        clients.turns.stop_waiting(&owner.client);
        if clients.unsent.is_empty() {
            self.turns.stop_waiting(&owner.project);
        }
        if clients.turns.is_idle() {
            self.projects.remove(&owner.project);
        }
    }

    /// Ends a lookup that [`Self::next`] returned.
    pub(super) fn done(&mut self, owner: &Owner) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.turns.end(&owner.project);
        let Some(clients) = self.projects.get_mut(&owner.project) else { return };
        clients.turns.end(&owner.client);
        if clients.turns.is_idle() {
            self.projects.remove(&owner.project);
        }
    }

    /// Removes a lookup that is not sent yet. Returns false if it was sent, or never added.
    pub(super) fn withdraw(&mut self, owner: &Owner, key: &LookupKey) -> bool {
        let clients = self.projects.get_mut(&owner.project);
        let queue = clients.and_then(|clients| clients.unsent.get_mut(&owner.client));
        let Some(queue) = queue else { return false };
        let before = queue.len();
        queue.retain(|unsent| unsent != key);
        let (withdrawn, is_empty) = (queue.len() < before, queue.is_empty());
        if is_empty {
            self.remove_queue(owner);
        }
        withdrawn
    }
}
