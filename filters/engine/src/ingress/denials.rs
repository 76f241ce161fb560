//! Counts the denied requests to each sandbox, for the owners of the sandboxes. `reports` sends the counts to the control plane.
//!
//! A denial is counted if the sandbox exists and a rule denied the request; an outage is no rule. Clients decide how many denials there
//! are, so a hub keeps a bounded number of counts, and adds up the denials beyond that number:
//!
//! - A client that tries all ports of a sandbox takes the room of this sandbox only.
//! - If there is no room for another sandbox, a project that has fewer of them gets it from the one that has the most. So denials of
//!   many sandboxes of one project don't keep out those of another one.
//!
//! A count has nothing that a client sends, except the port. A permit changes no count and takes no lock for one. A denial takes the lock
//! of the hub anyway, to repeat the lookups.

mod reports;

use std::collections::BTreeMap;

use sandgate_policy::denials::{
    Counted, Denials, InboundDenial, InboundReport, MAX_SANDBOXES, SandboxInbound,
};
use sandgate_policy::ids::{ProjectId, SandboxId};
use sandgate_policy::ingress::denial::Denial;

pub(crate) use self::reports::Reports;

/// The most pairs of a port and a rule that are counted for one sandbox, while there are fewer than [`FEW_SANDBOXES`].
const MAX_KINDS: usize = 20;
const FEW_SANDBOXES: usize = 100;
/// The most pairs of a port and a rule that are counted for one sandbox, while there are more sandboxes.
const FEW_KINDS: usize = 4;

/// The denied requests since the last report.
#[derive(Clone, Debug, Default)]
pub(crate) struct DenialCounts {
    projects: BTreeMap<ProjectId, BTreeMap<SandboxId, Kinds>>,
    /// The number of sandboxes of all projects.
    sandboxes: usize,
    /// The number of denials for whose sandboxes there is no room.
    lost: u64,
}

/// A port, and the code of the denial.
type Kind = (u16, &'static str);

/// The denied requests to one sandbox.
#[derive(Clone, Debug, Default)]
struct Kinds {
    counts: BTreeMap<Kind, u64>,
    /// The number of further denials.
    more: u64,
}

impl DenialCounts {
    /// Counts a denied request to this sandbox.
    pub(crate) fn count(
        &mut self,
        project: &ProjectId,
        sandbox: &SandboxId,
        port: u16,
        denial: Denial,
    ) {
        let kind = (port, denial.code());
        let kinds = self.projects.get_mut(project).and_then(|it| it.get_mut(sandbox));
        match kinds.and_then(|kinds| kinds.counts.get_mut(&kind)) {
            Some(count) => *count = count.saturating_add(1),
            None => {
                self.add(project, sandbox, Kinds { counts: BTreeMap::from([(kind, 1)]), more: 0 });
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.projects.is_empty() && self.lost == 0
    }

    /// Adds what a report did not deliver.
    pub(crate) fn merge(&mut self, other: Self) {
        self.lost = self.lost.saturating_add(other.lost);
        for (project, sandboxes) in other.projects {
            for (sandbox, kinds) in sandboxes {
                self.add(&project, &sandbox, kinds);
            }
        }
    }

    fn add(&mut self, project: &ProjectId, sandbox: &SandboxId, added: Kinds) {
        let most = if self.sandboxes < FEW_SANDBOXES { MAX_KINDS } else { FEW_KINDS };
        match self.kinds_of(project, sandbox) {
            Some(kinds) => kinds.merge(added, most),
            None => self.lost = self.lost.saturating_add(added.total()),
        }
    }

    /// `None` if there is no room for the sandbox.
    fn kinds_of(&mut self, project: &ProjectId, sandbox: &SandboxId) -> Option<&mut Kinds> {
        let sandboxes = self.projects.get(project);
        if !sandboxes.is_some_and(|sandboxes| sandboxes.contains_key(sandbox)) {
            if self.sandboxes >= MAX_SANDBOXES && !self.make_room(project) {
                return None;
            }
            let sandboxes = self.projects.entry(project.clone()).or_default();
            sandboxes.insert(sandbox.clone(), Kinds::default());
            self.sandboxes = self.sandboxes.saturating_add(1);
        }
        self.projects.get_mut(project)?.get_mut(sandbox)
    }

    /// Drops a sandbox of the project that has the most, if that project has at least two more than `project`. With a difference of
    /// one, two projects would displace each other's sandboxes without end. Returns whether there is room now.
    fn make_room(&mut self, project: &ProjectId) -> bool {
        let own = self.projects.get(project).map_or(0, BTreeMap::len);
        let largest = self.projects.values_mut().max_by_key(|sandboxes| sandboxes.len());
        let largest = largest.filter(|sandboxes| sandboxes.len() >= own.saturating_add(2));
        let Some((_, dropped)) = largest.and_then(BTreeMap::pop_last) else { return false };
        self.lost = self.lost.saturating_add(dropped.total());
        self.sandboxes = self.sandboxes.saturating_sub(1);
        true
    }

    fn report(&self) -> InboundReport {
        let sandboxes = self.projects.values().flatten().map(|(id, Kinds { counts, more })| {
            let denials = counts.iter().map(|((port, rule), count)| Counted {
                denial: InboundDenial { port: *port, rule: (*rule).to_owned() },
                count: *count,
            });
            let inbound = Denials { denials: denials.collect(), more: *more };
            SandboxInbound { sandbox_id: id.clone(), inbound }
        });
        InboundReport { sandboxes: sandboxes.collect(), lost: self.lost }
    }
}

impl Kinds {
    /// Adds counts. There are at most `most` of them after that, unless there were more before.
    fn merge(&mut self, added: Self, most: usize) {
        self.more = self.more.saturating_add(added.more);
        for (kind, count) in added.counts {
            if let Some(counted) = self.counts.get_mut(&kind) {
                *counted = counted.saturating_add(count);
            } else if self.counts.len() < most {
                self.counts.insert(kind, count);
            } else {
                self.more = self.more.saturating_add(count);
            }
        }
    }

    fn total(&self) -> u64 {
        self.counts.values().copied().fold(self.more, u64::saturating_add)
    }
}

/// Whether an owner can do something about a denial: it does not come from an outage, or from the state of an upstream.
pub(crate) fn is_by_rule(denial: Denial) -> bool {
    match denial {
        Denial::CrossOrigin
        | Denial::InvalidCredentials
        | Denial::InvalidRequest(_)
        | Denial::PortNotExposed
        | Denial::PreflightOrigin
        | Denial::ProjectContextRequired
        | Denial::SandboxNotFound
        | Denial::SandboxNotRunning
        | Denial::TooManyRequests
        | Denial::Unauthenticated => true,
        Denial::AuthServiceUnavailable
        | Denial::HeadersTooLarge
        | Denial::InvalidHost(_)
        | Denial::SandboxNotReady
        | Denial::SandboxUpstreamError
        | Denial::UpstreamInvalid(_)
        | Denial::UpstreamReset => false,
    }
}

#[cfg(test)]
mod tests;
