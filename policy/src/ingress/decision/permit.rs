//! The permits that only a decision can create.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::gateway_api::Identity;
use crate::ids::{OrganizationId, PrincipalId, ProjectId, SandboxId};
use crate::ingress::concurrency::Class;
use crate::ingress::lookup::KnownSandbox;

/// Proof that a request may be forwarded, with its upstream address. Only [`super`] creates a permit.
///
/// It shares the sandbox and the identity with the caches.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Permit {
    pub(super) sandbox: Arc<KnownSandbox>,
    pub(super) upstream: SocketAddr,
    pub(super) class: Class,
    pub(super) identity: Option<Arc<Identity>>,
}

impl Permit {
    /// The canonical id of the sandbox.
    #[must_use]
    pub fn sandbox_id(&self) -> &SandboxId {
        &self.sandbox.id
    }

    /// The key of the upstream connection pool: the sandbox and its address generation. Requests share connections only
    /// if they have the same key.
    #[must_use]
    pub fn connection_group(&self) -> &str {
        self.sandbox.connection_group()
    }

    /// The only address that the request may go to.
    #[must_use]
    pub fn upstream(&self) -> SocketAddr {
        self.upstream
    }

    /// The IP address of [`Self::upstream`], as text, in brackets if it is an IPv6 address.
    #[must_use]
    pub fn upstream_host(&self) -> &str {
        self.sandbox.upstream_host()
    }

    /// Whether another permit leads to the same sandbox at the same address.
    #[must_use]
    pub fn is_same_route(&self, other: &Self) -> bool {
        self.sandbox.id == other.sandbox.id
            && self.sandbox.generation == other.sandbox.generation
            && self.upstream == other.upstream
    }

    /// The class of the request, which determines the slots that it can take.
    #[must_use]
    pub fn class(&self) -> Class {
        self.class
    }

    /// The verified caller. `None` on a public port, where no credential is evaluated.
    #[must_use]
    pub fn caller(&self) -> Option<Caller<'_>> {
        self.identity.as_deref().map(|identity| Caller {
            principal: &identity.principal,
            organization_id: &self.sandbox.organization_id,
            project_id: &self.sandbox.project_id,
            expires_at: identity.expires_at,
        })
    }
}

/// Proof that an anonymous request may be forwarded once another stream to the sandbox has been evicted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EvictionPermit(pub(super) Permit);

impl EvictionPermit {
    /// The canonical id of the sandbox whose slots are all taken.
    #[must_use]
    pub fn sandbox_id(&self) -> &SandboxId {
        self.0.sandbox_id()
    }

    /// The permit. The caller must have evicted another stream to the sandbox.
    #[must_use]
    pub fn into_permit(self) -> Permit {
        self.0
    }
}

/// The verified sender of a permitted request. All fields may be sent to the sandbox.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Caller<'a> {
    /// The principal of the credential; see [`crate::gateway_api::Identity::principal`].
    pub principal: &'a PrincipalId,
    /// The organization of the sandbox, which is also the caller's.
    pub organization_id: &'a OrganizationId,
    /// The project of the sandbox, in which the caller may act.
    pub project_id: &'a ProjectId,
    /// The time at which the credential expires, in seconds since the Unix epoch. `None` if it does not expire.
    pub expires_at: Option<u64>,
}

impl Caller<'_> {
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
    /// The canonical id of the sandbox.
    #[must_use]
    pub fn sandbox_id(&self) -> &SandboxId {
        &self.sandbox_id
    }

    /// The project that the sandbox belongs to. The limit of requests that wait for a resume applies per project.
    #[must_use]
    pub fn project_id(&self) -> &ProjectId {
        &self.project_id
    }

    /// Whether the port is public, so that no credential was evaluated.
    #[must_use]
    pub fn is_public(&self) -> bool {
        self.public
    }
}
