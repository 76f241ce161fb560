//! What the store keeps of sandboxes, and the audit log of their changes.

use sandgate_policy::gateway_api::{self, SandboxState};
use sandgate_policy::ids::SandboxRef;

use super::{Committed, Result};
use crate::model::{
    NetworkChange, NewSandbox, PortChange, Sandbox, SandboxId, SandboxName, SandboxPatch,
    Timestamp, Transition,
};

/// Which part of a project's sandboxes to list.
#[derive(Clone, Debug)]
pub struct ListFilter {
    /// Only those in this state.
    pub state: Option<SandboxState>,
    /// Only those after this [`Sandbox::sequence`].
    pub after: i64,
    /// At most so many, but one if there is one.
    pub limit: usize,
    /// At most so many bytes of ports, kept fields and network policies, but one sandbox if there is one.
    pub size: usize,
}

/// Some of a project's sandboxes, in the order in which they were made.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// They.
    pub sandboxes: Vec<Sandbox>,
    /// There are others after them.
    pub more: bool,
}

/// A sandbox that took a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Transitioned {
    /// As it is.
    pub sandbox: Sandbox,
    /// The sandbox that had its address until then, as it is: suspended, or terminated if it had no
    /// name. The platform gave an address away without a word that it was free.
    pub displaced: Option<Sandbox>,
}

/// A patched sandbox.
#[derive(Clone, Debug, PartialEq)]
pub struct Patched {
    /// As it was.
    pub before: Sandbox,
    /// As it is.
    pub after: Sandbox,
}

impl Patched {
    /// Ports that the change made public.
    #[must_use]
    pub fn opened_ports(&self) -> Vec<u16> {
        opened_ports(&self.before, &self.after)
    }
}

/// The ports that need a credential before a change and no credential after it. Some clients set the flag
/// when they remove a port, although it holds for all other ports of the sandbox.
pub(crate) fn opened_ports(before: &Sandbox, after: &Sandbox) -> Vec<u16> {
    if before.allow_unauthenticated_access || !after.allow_unauthenticated_access {
        return Vec::new();
    }
    let was = before.exposed_ports.as_slice();
    after.exposed_ports.as_slice().iter().copied().filter(|port| was.contains(port)).collect()
}

/// Consecutive lines of the audit log, oldest first.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditPage<T> {
    /// The lines.
    pub lines: Vec<T>,
    /// Where the next page begins; `None` if this is the last page.
    pub next: Option<AuditPlace>,
}

/// A place in the audit log. The first page begins at the default place.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct AuditPlace(pub(crate) i64);

/// Sandboxes. Terminated ones are found only by [`Sandboxes::sandboxes_in`].
pub trait Sandboxes {
    /// Makes a pending sandbox.
    ///
    /// # Errors
    /// The name is taken or held for another project, no such project, or the store can't be
    /// written.
    fn create_sandbox(&self, new: &NewSandbox, now: Timestamp) -> Result<Committed<Sandbox>>;

    /// The sandbox of an id or a name.
    ///
    /// # Errors
    /// The store can't be read.
    fn sandbox(&self, which: &SandboxRef) -> Result<Option<Sandbox>>;

    /// The sandbox of that id or name, as gateways need it. Reads only the columns that gateways need, so
    /// that the time of an answer does not depend on what the owner stored.
    ///
    /// # Errors
    /// The store can't be read.
    fn gateway_sandbox(&self, which: &SandboxRef) -> Result<Option<gateway_api::Sandbox>>;

    /// Part of a project's sandboxes, in the order in which they were made.
    ///
    /// # Errors
    /// The store can't be read.
    fn list_sandboxes(&self, project_id: &str, filter: &ListFilter) -> Result<Page>;

    /// All sandboxes of the deployment in a state.
    ///
    /// # Errors
    /// The store can't be read.
    fn sandboxes_in(&self, state: SandboxState) -> Result<Vec<Sandbox>>;

    /// All sandboxes of the deployment whose suspension the runtime did not confirm.
    ///
    /// # Errors
    /// The store can't be read.
    fn unconfirmed_suspensions(&self) -> Result<Vec<Sandbox>>;

    /// Stores that the runtime confirmed a suspension, or refused it, if the sandbox has not run since
    /// `generation`. Filters do not know this state, so it is not in the change log.
    ///
    /// # Errors
    /// The store can't be written.
    fn confirm_suspension(&self, id: &SandboxId, generation: u64) -> Result<()>;

    /// Changes what an owner may change; ports and flag, and the network policy, leave a line each
    /// in the audit log.
    ///
    /// # Errors
    /// No such sandbox, the name is taken, `auto_resume` is switched off for a sandbox without a
    /// name, private ports would become public although the patch keeps them private, the kept fields or
    /// the project would become too large, or the store can't be written.
    fn patch_sandbox(
        &self,
        id: &SandboxId,
        patch: &SandboxPatch,
        principal: &str,
        now: Timestamp,
    ) -> Result<Committed<Patched>>;

    /// Takes a step if the sandbox is in one of the states of `from`; `None` if it is not (any
    /// more). Of several who try, one wins.
    ///
    /// A step to [`Transition::Pending`] begins a placement, and so does a move to another address.
    ///
    /// An address belongs to one sandbox at a time. A step to [`Transition::Running`] takes it away
    /// from the one that has it, in the same transaction and with a change of its own.
    ///
    /// # Errors
    /// The store can't be written.
    fn transition(
        &self,
        id: &SandboxId,
        from: &[SandboxState],
        transition: Transition,
        now: Timestamp,
    ) -> Result<Option<Committed<Transitioned>>>;

    /// Ends a sandbox for everyone: it is not found any more, its name is held for its project.
    /// What the runtime must still clean up stays listed as terminated. `None` if it is not there.
    ///
    /// # Errors
    /// The store can't be written.
    fn terminate_sandbox(
        &self,
        id: &SandboxId,
        principal: &str,
        now: Timestamp,
    ) -> Result<Option<Committed<Sandbox>>>;

    /// Forgets a terminated sandbox, once the runtime has cleaned up.
    ///
    /// # Errors
    /// The store can't be written.
    fn remove_terminated(&self, id: &SandboxId) -> Result<()>;

    /// Whether a project could take a name now.
    ///
    /// # Errors
    /// The store can't be read.
    fn name_is_free(&self, name: &SandboxName, project_id: &str, now: Timestamp) -> Result<bool>;

    /// A page of the audit log of ports, of one sandbox or of all. A page has a bounded length, so a long
    /// log is never in memory as a whole.
    ///
    /// # Errors
    /// The store can't be read.
    fn port_changes(
        &self,
        sandbox_id: Option<&SandboxId>,
        from: AuditPlace,
    ) -> Result<AuditPage<PortChange>>;

    /// A page of the audit log of network policies, of one sandbox or of all.
    ///
    /// # Errors
    /// The store can't be read.
    fn network_changes(
        &self,
        sandbox_id: Option<&SandboxId>,
        from: AuditPlace,
    ) -> Result<AuditPage<NetworkChange>>;

    /// How many sandboxes have another network policy than the default one.
    ///
    /// # Errors
    /// The store can't be read.
    fn restricted_sandboxes(&self) -> Result<u64>;
}
