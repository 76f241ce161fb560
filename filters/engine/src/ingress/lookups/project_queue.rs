//! The order in which resumes are sent: projects take turns, and so do the clients of each.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use sandgate_policy::ids::ProjectId;
use sandgate_policy::ingress::slots::ClientAddress;

use super::fair_queue::FairQueue;
use super::key::LookupKey;
use super::turns::Turns;

/// Lookups that take long. How long is up to the owner of the sandbox, who could otherwise take all places.
///
/// A project has at most as many lookups in flight as there are places left. One project alone can have half of the capacity, and
/// there is always room for another one.
pub(super) struct ProjectQueue {
    /// The projects that have lookups.
    projects: BTreeMap<ProjectId, FairQueue>,
    turns: Turns<ProjectId>,
    in_flight: usize,
    /// The most lookups that may be in flight at once.
    capacity: usize,
}

impl ProjectQueue {
    pub(super) fn new(capacity: usize) -> Self {
        Self { projects: BTreeMap::new(), turns: Turns::default(), in_flight: 0, capacity }
    }

    /// Whether a lookup waits and may be sent.
    pub(super) fn can_send(&self) -> bool {
        let free = self.capacity.saturating_sub(self.in_flight);
        self.turns.fewest_in_flight().is_some_and(|fewest| fewest < free)
    }

    pub(super) fn add(&mut self, project: &ProjectId, client: ClientAddress, key: LookupKey) {
        let new = || FairQueue::new(self.capacity);
        let clients = self.projects.entry(project.clone()).or_insert_with(new);
        clients.add(client, key);
        self.turns.wait(project);
    }

    /// Takes the next lookup to send, of the project that has the fewest in flight.
    pub(super) fn next(&mut self) -> Option<LookupKey> {
        if !self.can_send() {
            return None;
        }
        let project = self.turns.next()?;
        self.in_flight = self.in_flight.saturating_add(1);
        let clients = self.projects.get_mut(&project)?;
        let key = clients.next();
        if clients.has_unsent() {
            self.turns.wait(&project);
        }
        key
    }

    /// Ends a lookup that [`Self::next`] returned.
    pub(super) fn done(&mut self, project: &ProjectId, client: ClientAddress) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.turns.end(project);
        if let Some(clients) = self.projects.get_mut(project) {
            clients.done(client);
            self.remove_if_idle(project);
        }
    }

    /// Removes a lookup that is not sent yet. Returns false if it was sent, or never added.
    pub(super) fn withdraw(
        &mut self,
        project: &ProjectId,
        client: ClientAddress,
        key: &LookupKey,
    ) -> bool {
        let Some(clients) = self.projects.get_mut(project) else { return false };
        let withdrawn = clients.withdraw(client, key);
        if !clients.has_unsent() {
            self.turns.stop_waiting(project);
        }
        self.remove_if_idle(project);
        withdrawn
    }

    fn remove_if_idle(&mut self, project: &ProjectId) {
        if self.projects.get(project).is_some_and(FairQueue::is_idle) {
            self.projects.remove(project);
        }
    }
}
