//! Proofs that a decision was made, and what it allows.

use std::net::SocketAddr;

use crate::ids::{OrganizationId, PrincipalId, ProjectId, SandboxId};
use crate::ingress::concurrency::Class;

/// Proof that a request may be forwarded, and to where. Only [`decide`] makes one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Permit {
    pub(super) sandbox_id: SandboxId,
    pub(super) generation: u64,
    pub(super) upstream: SocketAddr,
    pub(super) class: Class,
    pub(super) caller: Option<Caller>,
}

impl Permit {
    /// Canonical id of the sandbox.
    #[must_use]
    pub fn sandbox_id(&self) -> &SandboxId {
        &self.sandbox_id
    }

    /// Names sandbox and address generation: connections are shared only within one value.
    #[must_use]
    pub fn connection_group(&self) -> String {
        format!("{}:{}", self.sandbox_id, self.generation)
    }

    /// The only address that the request may go to.
    #[must_use]
    pub fn upstream(&self) -> SocketAddr {
        self.upstream
    }

    /// Whether another permit leads to the same sandbox at the same address.
    #[must_use]
    pub fn is_same_route(&self, other: &Self) -> bool {
        self.sandbox_id == other.sandbox_id
            && self.generation == other.generation
            && self.upstream == other.upstream
    }

    /// Which of the sandbox's slots the request takes.
    #[must_use]
    pub fn class(&self) -> Class {
        self.class
    }

    /// Who sends it; `None` on a public port, where nobody was asked.
    #[must_use]
    pub fn caller(&self) -> Option<&Caller> {
        self.caller.as_ref()
    }
}

/// Proof that an anonymous request may be forwarded in the slot of another one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EvictionPermit(pub(super) Permit);

impl EvictionPermit {
    /// Canonical id of the sandbox whose slots are all taken.
    #[must_use]
    pub fn sandbox_id(&self) -> &SandboxId {
        self.0.sandbox_id()
    }

    /// The permit, once another stream to the sandbox has given way.
    #[must_use]
    pub fn into_permit(self) -> Permit {
        self.0
    }
}

/// Who sends a permitted request: verified, and safe to show to the sandbox.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Caller {
    /// As in [`Identity::principal`].
    pub principal: PrincipalId,
    /// The sandbox's organization, of which the caller is.
    pub organization_id: OrganizationId,
    /// The sandbox's project, in which the caller may act.
    pub project_id: ProjectId,
    /// Seconds since the Unix epoch after which the credential is void.
    pub expires_at: Option<u64>,
}

impl Caller {
    /// Whether the credential has expired. `now` is in seconds since the Unix epoch.
    #[must_use]
    pub fn is_expired(&self, now: u64) -> bool {
        self.expires_at.is_some_and(|expiry| now >= expiry)
    }
}

/// Proof that a request may resume a sandbox: its caller is authorized, or the port is public.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ResumePermit {
    pub(super) sandbox_id: SandboxId,
    pub(super) project_id: ProjectId,
    pub(super) public: bool,
}

impl ResumePermit {
    /// Canonical id of the sandbox.
    #[must_use]
    pub fn sandbox_id(&self) -> &SandboxId {
        &self.sandbox_id
    }

    /// The project that the sandbox belongs to, and that whoever waits is counted for.
    #[must_use]
    pub fn project_id(&self) -> &ProjectId {
        &self.project_id
    }

    /// Nobody was asked for a credential.
    #[must_use]
    pub fn is_public(&self) -> bool {
        self.public
    }
}
