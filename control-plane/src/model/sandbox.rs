//! Sandboxes, and their creation and patches.

use std::net::IpAddr;

use sandgate_policy::egress::NetworkPolicy;
use sandgate_policy::gateway_api::SandboxState;
use sandgate_policy::ids::{OrganizationId, PrincipalId, ProjectId, SandboxId};
use serde_json::{Map, Value};

use super::{ExposedPorts, SandboxName, Timestamp};

/// The kept fields: those that an owner sends and that have no meaning for networking, such as the image and the
/// resources. Responses repeat them, and the runtime gets them.
pub type Spec = Map<String, Value>;

#[derive(Clone, Debug, PartialEq)]
pub struct Sandbox {
    /// Canonical id.
    pub id: SandboxId,
    /// The owner's name for it. A sandbox without a name is ephemeral: it is never suspended or resumed.
    pub name: Option<SandboxName>,
    /// The organization of its project.
    pub organization_id: OrganizationId,
    pub project_id: ProjectId,
    pub state: SandboxState,
    /// The address of its ports, while it runs.
    pub address: Option<IpAddr>,
    /// The address generation: a number that is unique in the deployment and grows each time any sandbox gets an
    /// address. Two sandboxes that have the same address one after the other never share a generation. It is 0
    /// until the sandbox runs.
    pub generation: u64,
    /// The number of its stay at one address. Each start, each resume and each reported move begins a new
    /// placement with a greater number, which is unique in the deployment. Unlike the generation, it is
    /// known before the address, so calls to the platform carry it, and the platform's reports name it.
    pub placement: u64,
    /// The sandbox counts as suspended, and the runtime has not confirmed the suspension.
    pub suspension_unconfirmed: bool,
    /// The ports to which requests are routed.
    pub exposed_ports: ExposedPorts,
    /// The exposed ports need no credential.
    pub allow_unauthenticated_access: bool,
    /// Requests may resume it.
    pub auto_resume: bool,
    /// The policy for its outbound traffic.
    pub network_policy: NetworkPolicy,
    /// The revision of the last change of `network_policy`, or 0 if it never changed.
    pub network_policy_revision: u64,
    /// Its kept fields.
    pub spec: Spec,
    /// The time of its creation.
    pub created_at: Timestamp,
    /// Its position in the order of creation.
    pub sequence: i64,
}

impl Sandbox {
    /// The sandbox as gateways need it.
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

/// A sandbox to create. It is pending at first.
#[derive(Clone, Debug)]
pub struct NewSandbox {
    pub id: SandboxId,
    /// Its name, if it gets one.
    pub name: Option<SandboxName>,
    pub project_id: ProjectId,
    /// The ports to which requests are routed.
    pub exposed_ports: ExposedPorts,
    /// The exposed ports need no credential.
    pub allow_unauthenticated_access: bool,
    /// Requests may resume it.
    pub auto_resume: bool,
    /// The policy for its outbound traffic.
    pub network_policy: NetworkPolicy,
    /// Its kept fields.
    pub spec: Spec,
    /// The principal for the audit log.
    pub principal: PrincipalId,
}

/// A change by an owner. An absent field stays as it is.
#[derive(Clone, Debug, Default)]
pub struct SandboxPatch {
    /// The new name.
    pub name: Option<SandboxName>,
    /// The new list of ports.
    pub exposed_ports: Option<ExposedPorts>,
    /// The new value of `allow_unauthenticated_access`.
    pub allow_unauthenticated_access: Option<bool>,
    /// The new value of `auto_resume`.
    pub auto_resume: Option<bool>,
    /// The new policy, which replaces the whole former one.
    pub network_policy: Option<NetworkPolicy>,
    /// New values of these keys of [`Sandbox::spec`]. Null removes a key.
    pub spec: Spec,
    /// The patch is refused if it would make private ports public.
    pub keep_private: bool,
}

impl SandboxPatch {
    /// Whether the patch sets nothing but `exposed_ports` and `allow_unauthenticated_access`, and does not make ports
    /// public. It only removes access then, unless it adds a port.
    pub(crate) fn may_only_remove_access(&self) -> bool {
        let Self {
            name,
            exposed_ports: _,
            allow_unauthenticated_access,
            auto_resume,
            network_policy,
            spec,
            keep_private: _,
        } = self;
        *allow_unauthenticated_access != Some(true)
            && name.is_none()
            && auto_resume.is_none()
            && network_policy.is_none()
            && spec.is_empty()
    }

    /// Whether the patch exposes no port that is not exposed in `before`.
    pub(crate) fn adds_no_port_to(&self, before: &Sandbox) -> bool {
        let exposed = before.exposed_ports.as_slice();
        self.exposed_ports
            .as_ref()
            .is_none_or(|ports| ports.as_slice().iter().all(|port| exposed.contains(port)))
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
