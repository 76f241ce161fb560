//! A sandbox, and the changes that can be made to it.

use std::net::IpAddr;

use sandgate_policy::egress::NetworkPolicy;
use sandgate_policy::gateway_api::SandboxState;
use sandgate_policy::ids::{OrganizationId, PrincipalId, ProjectId, SandboxId};
use serde_json::{Map, Value};

use super::{ExposedPorts, SandboxName, Timestamp};

/// What an owner asked for that networking has no use for (image, resources, …). It is kept for
/// answers and handed to the runtime.
pub type Spec = Map<String, Value>;

/// A sandbox.
#[derive(Clone, Debug, PartialEq)]
pub struct Sandbox {
    /// Canonical id.
    pub id: SandboxId,
    /// The owner's name for it; without one it is ephemeral: never suspended, never resumed.
    pub name: Option<SandboxName>,
    /// Whose project it is in.
    pub organization_id: OrganizationId,
    /// Which project it is in.
    pub project_id: ProjectId,
    /// Where it is in its life.
    pub state: SandboxState,
    /// Where its ports are; only while it runs.
    pub address: Option<IpAddr>,
    /// Unique in the deployment and growing: each time any sandbox gets an address it gets a new
    /// one, so two users of one address never share one.
    pub generation: u64,
    /// The number of its stay at one address. Each start, each resume and each reported move begins a new
    /// placement with a greater number, which is unique in the deployment. Unlike the generation, it is
    /// known before the address, so calls to the platform carry it, and the platform's reports name it.
    pub placement: u64,
    /// It counts as suspended, and the runtime has not confirmed the suspension.
    pub unconfirmed: bool,
    /// Ports that may be routed to.
    pub exposed_ports: ExposedPorts,
    /// Exposed ports need no credential.
    pub allow_unauthenticated_access: bool,
    /// A request may resume it.
    pub auto_resume: bool,
    /// Where it may connect to.
    pub network: NetworkPolicy,
    /// The revision at which that was said; 0 when it was made.
    pub network_revision: u64,
    /// What else its owner asked for.
    pub spec: Spec,
    /// When it was made.
    pub created_at: Timestamp,
    /// Order of making; the place in a list.
    pub sequence: i64,
}

impl Sandbox {
    /// The sandbox as filters need it.
    #[must_use]
    pub fn to_gateway(&self) -> sandgate_policy::gateway_api::Sandbox {
        sandgate_policy::gateway_api::Sandbox {
            id: self.id.clone(),
            name: self.name.as_ref().map(ToString::to_string),
            organization_id: self.organization_id.clone(),
            project_id: self.project_id.clone(),
            state: state_for_gateways(
                self.state,
                self.generation,
                self.auto_resume && self.name.is_some(),
            ),
            address: self.address,
            exposed_ports: self.exposed_ports.as_slice().to_vec(),
            allow_unauthenticated_access: self.allow_unauthenticated_access,
            auto_resume: self.auto_resume,
            generation: self.generation,
        }
    }
}

/// A sandbox to be made. It starts out pending.
#[derive(Clone, Debug)]
pub struct NewSandbox {
    /// Its id.
    pub id: SandboxId,
    /// Its name, if it is to have one.
    pub name: Option<SandboxName>,
    /// Where.
    pub project_id: ProjectId,
    /// Ports that may be routed to.
    pub exposed_ports: ExposedPorts,
    /// Exposed ports need no credential.
    pub allow_unauthenticated_access: bool,
    /// A request may resume it.
    pub auto_resume: bool,
    /// Where it may connect to.
    pub network: NetworkPolicy,
    /// What else its owner asked for.
    pub spec: Spec,
    /// Who asked, for the audit log.
    pub principal: PrincipalId,
}

/// What an owner changes; absent means keep.
#[derive(Clone, Debug, Default)]
pub struct SandboxPatch {
    /// New name.
    pub name: Option<SandboxName>,
    /// New list of ports.
    pub exposed_ports: Option<ExposedPorts>,
    /// New flag.
    pub allow_unauthenticated_access: Option<bool>,
    /// New flag.
    pub auto_resume: Option<bool>,
    /// New policy, in the place of the whole old one.
    pub network: Option<NetworkPolicy>,
    /// Replaces these keys of [`Sandbox::spec`]; null removes.
    pub spec: Spec,
    /// Refuse the patch if it would make private ports public.
    pub keep_private: bool,
}

impl SandboxPatch {
    /// Whether it changes nothing but ports and the flag, and does not set the flag.
    pub(crate) fn only_closes(&self) -> bool {
        let Self {
            name,
            exposed_ports: _,
            allow_unauthenticated_access,
            auto_resume,
            network,
            spec,
            keep_private: _,
        } = self;
        let others = name.is_none() && auto_resume.is_none() && network.is_none();
        others && spec.is_empty() && *allow_unauthenticated_access != Some(true)
    }

    /// Whether it adds no port to those of `before`.
    pub(crate) fn closes_ports_of(&self, before: &Sandbox) -> bool {
        let had = before.exposed_ports.as_slice();
        self.exposed_ports
            .as_ref()
            .is_none_or(|ports| ports.as_slice().iter().all(|port| had.contains(port)))
    }
}

/// A step of a sandbox's life. The address exists exactly while it runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Transition {
    /// It will run soon.
    Pending,
    /// It runs at this address, in a new generation. Whoever had the address loses it.
    Running(IpAddr),
    /// It runs on where it was, as its suspension was refused, in a new generation. If another one got
    /// the address meanwhile, that was told later, and this one is suspended.
    StillRunning(IpAddr),
    /// It is being stopped.
    Suspending,
    /// It is stopped.
    Suspended,
    /// It counts as stopped. The runtime did not confirm that, and must suspend it again.
    SuspendedUnconfirmed,
}

impl Transition {
    /// The state that it leads to.
    #[must_use]
    pub fn state(self) -> SandboxState {
        match self {
            Self::Pending => SandboxState::Pending,
            Self::Running(_) | Self::StillRunning(_) => SandboxState::Running,
            Self::Suspending => SandboxState::Suspending,
            Self::Suspended | Self::SuspendedUnconfirmed => SandboxState::Suspended,
        }
    }
}

/// The state that gateways see. A pending sandbox that has run before and is resumable (requests may resume
/// it, and it has a name) is shown as suspended, so that a request joins the resume instead of being denied.
pub(crate) fn state_for_gateways(
    state: SandboxState,
    generation: u64,
    resumable: bool,
) -> SandboxState {
    let is_resuming = state == SandboxState::Pending && generation > 0 && resumable;
    if is_resuming { SandboxState::Suspended } else { state }
}

/// The word for a state, on the wire and in the store.
#[must_use]
pub fn state_name(state: SandboxState) -> &'static str {
    match state {
        SandboxState::Pending => "pending",
        SandboxState::Running => "running",
        SandboxState::Snapshotting => "snapshotting",
        SandboxState::Suspending => "suspending",
        SandboxState::Suspended => "suspended",
        SandboxState::Terminated => "terminated",
    }
}

/// The state that a word stands for.
#[must_use]
pub fn state_named(word: &str) -> Option<SandboxState> {
    Some(match word {
        "pending" => SandboxState::Pending,
        "running" => SandboxState::Running,
        "snapshotting" => SandboxState::Snapshotting,
        "suspending" => SandboxState::Suspending,
        "suspended" => SandboxState::Suspended,
        "terminated" => SandboxState::Terminated,
        _ => return None,
    })
}
