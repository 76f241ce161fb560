//! The slots of the requests that wait for a resume, and the choice of the request that gives its slot to a new one.
//!
//! A project may take all slots while nobody else needs them. If all are taken, a new request gets the slot of a project
//! that holds more than its own, or of a client of its own project that holds more than its own client. Anonymous
//! requests leave a fifth of the slots to authorized ones and never displace them.

use std::collections::BTreeMap;

use sandgate_policy::ids::ProjectId;
use sandgate_policy::ingress::ResumePermit;
use sandgate_policy::ingress::slots::{ClientAddress, SlotHolders};

use crate::ingress::effect::StreamId;

/// Whether there is a slot for a new request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Room {
    Free,
    /// If this stream gives its slot away.
    Evict(StreamId),
    Full,
}

#[derive(Debug)]
struct Holder {
    project_id: ProjectId,
    is_public: bool,
    client: ClientAddress,
}

#[derive(Debug, Default)]
pub(crate) struct ResumeSlots {
    holders: BTreeMap<StreamId, Holder>,
    authorized: Projects,
    anonymous: Projects,
}

impl ResumeSlots {
    /// The room for a request of `client`, of at most `capacity` requests.
    pub(crate) fn room(
        &self,
        permit: &ResumePermit,
        client: ClientAddress,
        capacity: usize,
        now: u64,
    ) -> Room {
        let is_free = self.len() < capacity;
        let evicted = if permit.is_public() {
            if is_free && self.anonymous.taken < capacity.saturating_sub(capacity / 5) {
                return Room::Free;
            }
            self.anonymous_to_evict(permit.project_id(), client, now)
        } else {
            if is_free {
                return Room::Free;
            }
            self.any_to_evict(permit.project_id(), client, now)
        };
        evicted.map_or(Room::Full, Room::Evict)
    }

    /// The request that gives its slot to an anonymous one.
    fn anonymous_to_evict(
        &self,
        project_id: &ProjectId,
        client: ClientAddress,
        now: u64,
    ) -> Option<StreamId> {
        let least = self.anonymous.held_by(project_id).saturating_add(2);
        let largest = self.anonymous.largest(least, |id| self.anonymous.held_by(id));
        largest
            .and_then(SlotHolders::newest_of_largest_client)
            .or_else(|| self.anonymous.of(project_id)?.stream_to_evict(client, now, None))
    }

    /// The request that gives its slot to an authorized one.
    fn any_to_evict(
        &self,
        project_id: &ProjectId,
        client: ClientAddress,
        now: u64,
    ) -> Option<StreamId> {
        let held =
            |id: &ProjectId| self.authorized.held_by(id).saturating_add(self.anonymous.held_by(id));
        let own = held(project_id);
        // The anonymous requests of a smaller project keep their slots: otherwise a project could take all of them.
        self.anonymous
            .largest(own, held)
            .or_else(|| self.authorized.largest(own.saturating_add(2), held))
            .and_then(SlotHolders::newest_of_largest_client)
            .or_else(|| self.authorized.of(project_id)?.stream_to_evict(client, now, None))
    }

    /// Gives a stream a slot, or changes whose slot it is.
    pub(crate) fn acquire(
        &mut self,
        stream: StreamId,
        permit: &ResumePermit,
        client: ClientAddress,
        now: u64,
    ) {
        self.release(stream);
        let holder = Holder {
            project_id: permit.project_id().clone(),
            is_public: permit.is_public(),
            client,
        };
        self.projects(holder.is_public).acquire(&holder, stream, now);
        self.holders.insert(stream, holder);
    }

    /// Takes the slot of a stream away, if it has one.
    pub(crate) fn release(&mut self, stream: StreamId) {
        if let Some(holder) = self.holders.remove(&stream) {
            self.projects(holder.is_public).release(&holder, stream);
        }
    }

    fn projects(&mut self, is_public: bool) -> &mut Projects {
        match is_public {
            true => &mut self.anonymous,
            false => &mut self.authorized,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.holders.len()
    }
}

/// The slots of one class of requests.
#[derive(Debug, Default)]
struct Projects {
    /// None is empty.
    projects: BTreeMap<ProjectId, SlotHolders>,
    taken: usize,
}

impl Projects {
    fn of(&self, project_id: &ProjectId) -> Option<&SlotHolders> {
        self.projects.get(project_id)
    }

    fn held_by(&self, project_id: &ProjectId) -> usize {
        self.of(project_id).map_or(0, SlotHolders::len)
    }

    /// The project that holds the most slots by `held`, if these are `least` or more.
    fn largest(&self, least: usize, held: impl Fn(&ProjectId) -> usize) -> Option<&SlotHolders> {
        let candidates = self.projects.iter().map(|(id, holders)| (held(id), holders));
        let candidates = candidates.filter(|(held, _)| *held >= least);
        candidates.max_by_key(|(held, _)| *held).map(|(_, holders)| holders)
    }

    fn acquire(&mut self, holder: &Holder, stream: StreamId, now: u64) {
        let project = self.projects.entry(holder.project_id.clone()).or_default();
        project.acquire(holder.client, stream, now);
        self.taken = self.taken.saturating_add(1);
    }

    fn release(&mut self, holder: &Holder, stream: StreamId) {
        if let Some(project) = self.projects.get_mut(&holder.project_id) {
            project.release(holder.client, stream);
            if project.is_empty() {
                self.projects.remove(&holder.project_id);
            }
        }
        self.taken = self.taken.saturating_sub(1);
    }
}
