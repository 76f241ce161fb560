//! The part of the store that has sandboxes, and the audit log of their changes.

use sandgate_policy::gateway_api::{self, SandboxState};
use sandgate_policy::ids::SandboxRef;

use super::{Committed, Result};
use crate::model::{
    NetworkChange, NewSandbox, PortChange, Sandbox, SandboxId, SandboxName, SandboxPatch,
    Timestamp, Transition,
};

/// The part of a project's sandboxes to list.
#[derive(Clone, Debug)]
pub struct ListFilter {
    /// Only sandboxes in this state.
    pub state: Option<SandboxState>,
    /// Only sandboxes after this [`Sandbox::sequence`].
    pub after: i64,
    /// The most sandboxes of the page. It has at least one, if there is one.
    pub limit: usize,
    /// The most bytes of ports, kept fields and network policies. The page has at least one sandbox, if there is
    /// one.
    pub size: usize,
}

/// A part of a project's sandboxes, in the order of their creation.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    pub sandboxes: Vec<Sandbox>,
    /// There are more sandboxes after these.
    pub more: bool,
}

/// The result of a transition.
#[derive(Clone, Debug, PartialEq)]
pub struct Transitioned {
    /// The sandbox after the transition.
    pub sandbox: Sandbox,
    /// The sandbox that had the address before, after this transition: suspended, or terminated if it has no
    /// name. The platform assigned its address again without reporting that it was free.
    pub displaced: Option<Sandbox>,
}

/// The result of a patch.
#[derive(Clone, Debug, PartialEq)]
pub struct Patched {
    /// The sandbox before the patch.
    pub before: Sandbox,
    /// The sandbox after the patch.
    pub after: Sandbox,
}

impl Patched {
    /// The ports that the patch made public.
    #[must_use]
    pub fn ports_made_public(&self) -> Vec<u16> {
        ports_made_public(&self.before, &self.after)
    }
}

/// The ports that need a credential before a change and no credential after it. Some clients set
/// `allow_unauthenticated_access` when they remove a port, although it applies to all other ports of the sandbox.
pub(crate) fn ports_made_public(before: &Sandbox, after: &Sandbox) -> Vec<u16> {
    if before.allow_unauthenticated_access || !after.allow_unauthenticated_access {
        return Vec::new();
    }
    let was = before.exposed_ports.as_slice();
    after.exposed_ports.as_slice().iter().copied().filter(|port| was.contains(port)).collect()
}

/// Consecutive lines of the audit log, oldest first.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditPage<T> {
    pub lines: Vec<T>,
    /// Where the next page begins; `None` if this is the last page.
    pub next: Option<AuditCursor>,
}

/// A position in the audit log. The first page begins at the default position.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct AuditCursor(pub(crate) i64);

/// Sandboxes. Only [`Sandboxes::sandboxes_in`] finds terminated ones.
pub trait Sandboxes {
    /// Creates a pending sandbox.
    ///
    /// # Errors
    /// The name is taken or held for another project, no such project, or the store can't be
    /// written.
    fn create_sandbox(&self, new: &NewSandbox, now: Timestamp) -> Result<Committed<Sandbox>>;

    /// The sandbox with an id or a name.
    ///
    /// # Errors
    /// The store can't be read.
    fn sandbox(&self, which: &SandboxRef) -> Result<Option<Sandbox>>;

    /// The sandbox with an id or a name, as gateways need it. Reads only the columns that gateways need, so
    /// that the time of a response does not depend on what the owner stored.
    ///
    /// # Errors
    /// The store can't be read.
    fn gateway_sandbox(&self, which: &SandboxRef) -> Result<Option<gateway_api::Sandbox>>;

    /// A part of a project's sandboxes, in the order of their creation.
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

    /// Records that a suspension needs no retry, because the runtime confirmed or refused it. Has no effect if
    /// the sandbox has run since `generation`. Gateways do not cache this state, so it is not in the change log.
    ///
    /// # Errors
    /// The store can't be written.
    fn confirm_suspension(&self, id: &SandboxId, generation: u64) -> Result<()>;

    /// Changes what an owner may change. A change of the exposed ports or their flag, and one of the network
    /// policy, adds a line to the audit log.
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

    /// Applies a transition if the sandbox is in one of the states of `from`, and in the placement `within` if there is
    /// one, and returns `None` otherwise. Of several attempts at the same transition, only one succeeds.
    ///
    /// [`Transition::Pending`] begins a placement, and so does a move to another address.
    ///
    /// An address belongs to one sandbox at a time. [`Transition::Running`] takes it away from another sandbox
    /// that has it, in the same transaction and with a change of its own.
    ///
    /// # Errors
    /// The store can't be written.
    fn transition(
        &self,
        id: &SandboxId,
        from: &[SandboxState],
        within: Option<u64>,
        transition: Transition,
        now: Timestamp,
    ) -> Result<Option<Committed<Transitioned>>>;

    /// Terminates a sandbox. It is no longer found, and its name is held for its project. It stays listed as
    /// terminated until the runtime has stopped it. Returns `None` if it does not exist.
    ///
    /// # Errors
    /// The store can't be written.
    fn terminate_sandbox(
        &self,
        id: &SandboxId,
        principal: &str,
        now: Timestamp,
    ) -> Result<Option<Committed<Sandbox>>>;

    /// Removes a terminated sandbox, after the runtime has stopped it.
    ///
    /// # Errors
    /// The store can't be written.
    fn remove_terminated(&self, id: &SandboxId) -> Result<()>;

    /// Whether a project may claim a name now.
    ///
    /// # Errors
    /// The store can't be read.
    fn name_is_free(&self, name: &SandboxName, project_id: &str, now: Timestamp) -> Result<bool>;

    /// A page of the audit log of ports, of one sandbox or of all. Pages have a bounded length, because the log
    /// may be larger than the memory.
    ///
    /// # Errors
    /// The store can't be read.
    fn port_changes(
        &self,
        sandbox_id: Option<&SandboxId>,
        from: AuditCursor,
    ) -> Result<AuditPage<PortChange>>;

    /// A page of the audit log of network policies, of one sandbox or of all.
    ///
    /// # Errors
    /// The store can't be read.
    fn network_changes(
        &self,
        sandbox_id: Option<&SandboxId>,
        from: AuditCursor,
    ) -> Result<AuditPage<NetworkChange>>;

    /// The number of sandboxes with another network policy than the default one.
    ///
    /// # Errors
    /// The store can't be read.
    fn restricted_sandboxes(&self) -> Result<u64>;
}
