//! The types of the gateway API, which the filters and the sidecars call and the control plane serves.
//!
//! The API is small, so that any platform can implement it. Unknown fields in a response are ignored, so that a newer
//! control plane can serve an older filter. Unknown values of an enum are refused.
//!
//! | call | response |
//! |---|---|
//! | `GET /gateway/v1/sandboxes/{id-or-name}` | 200 [`Sandbox`], 404 [`ErrorBody`] |
//! | `POST /gateway/v1/credentials/introspect` with [`IntrospectRequest`] | 200 [`Introspection`] |
//! | `POST /gateway/v1/sandboxes/{id}/resume` with [`ResumeRequest`] | 200 [`Sandbox`] (after the wait, whatever its state), 404, 409 (can't be resumed), 429 + `Retry-After` (public resume limit) |
//! | `GET /gateway/v1/sandboxes/{id}/network-policy?since=R&wait_ms=25000` | 200 [`SandboxNetworkPolicy`], 404 |
//! | `GET /gateway/v1/changes?since=R&wait_ms=25000&watcher=W` | 200 [`Changes`] |
//!
//! Every response has the [`MARKER_HEADER`]. Envoy reports its own failures as responses with 503 and 504, so a response
//! without the marker means that the control plane is unavailable.

use serde::{Deserialize, Serialize};

use crate::egress::NetworkPolicy;
use crate::ids::{OrganizationId, PrincipalId, ProjectId, SandboxId};

/// The header that every response of the gateway API has, with the value [`MARKER_VALUE`].
pub const MARKER_HEADER: &str = "x-sandgate-control-plane";
/// The version of the gateway API that a response follows.
pub const MARKER_VALUE: &str = "v1";

/// Where a sandbox is in its life.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum SandboxState {
    /// Being created; it will run without being asked again.
    Pending,
    /// Serving.
    Running,
    /// A snapshot is being taken; it will run again without being asked.
    Snapshotting,
    /// On its way to [`Self::Suspended`].
    Suspending,
    /// Stopped, to be resumed; also while a resume is under way, which further requests join.
    Suspended,
    /// Gone for ever.
    Terminated,
}

impl SandboxState {
    /// All states.
    pub const ALL: [Self; 6] = [
        Self::Pending,
        Self::Running,
        Self::Snapshotting,
        Self::Suspending,
        Self::Suspended,
        Self::Terminated,
    ];

    /// The name of the state, which is also its form in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Snapshotting => "snapshotting",
            Self::Suspending => "suspending",
            Self::Suspended => "suspended",
            Self::Terminated => "terminated",
        }
    }

    /// The state with a name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

/// A sandbox as the ingress filter needs to know it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Sandbox {
    /// Canonical id: 21 characters of `[a-z0-9]`.
    pub id: SandboxId,
    /// The owner's name for it; a sandbox without one is ephemeral and is never resumed.
    #[serde(default)]
    pub name: Option<String>,
    /// The organization that owns the project.
    pub organization_id: OrganizationId,
    /// The project that the sandbox belongs to.
    pub project_id: ProjectId,
    /// Where it is in its life.
    pub state: SandboxState,
    /// IP address that its ports listen on; absent while it has none.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub address: Option<std::net::IpAddr>,
    /// User ports that may be routed to, sorted, without duplicates, never 9501.
    #[serde(default)]
    pub exposed_ports: Vec<u16>,
    /// Skip authentication for the exposed user ports.
    #[serde(default)]
    pub allow_unauthenticated_access: bool,
    /// Whether a request may resume it while it is suspended.
    #[serde(default = "yes")]
    pub auto_resume: bool,
    /// Grows each time the sandbox gets an address: upstream connections are never shared between
    /// two generations.
    pub generation: u64,
}

fn yes() -> bool {
    true
}

/// What kind of credential a caller showed.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum CredentialKind {
    /// A key that belongs to one project.
    ApiKey,
    /// A user's token; says which project it is used for.
    PersonalAccessToken,
    /// A user's browser session; says which project it is used for.
    Session,
}

/// Body of `POST /gateway/v1/credentials/introspect`. No `Debug`: it holds a secret.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct IntrospectRequest {
    /// How the credential was shown.
    pub kind: CredentialKind,
    /// The secret itself, as the caller sent it.
    pub secret: String,
    /// The organization that the caller claims to act in; with every PAT and session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization_id: Option<OrganizationId>,
    /// The project that the caller claims to act in; with every PAT and session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_id: Option<ProjectId>,
}

/// Answer to an introspection.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Introspection {
    /// Absent when the credential is unknown, revoked, expired or of another kind.
    pub identity: Option<Identity>,
}

/// Who a credential stands for, and where it may act.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Identity {
    /// Not secret: the API key's id, or the user's. The change feed names it when the credential
    /// or what it may do changes.
    pub principal: PrincipalId,
    /// The organization in which it acts.
    pub organization_id: OrganizationId,
    /// Projects in which it may act, out of those that it asked for. Empty: a valid credential
    /// that is no member of the project it names.
    pub project_ids: Vec<ProjectId>,
    /// Seconds since the Unix epoch after which the credential is void; absent: never.
    #[serde(default)]
    pub expires_at: Option<u64>,
}

/// Body of `POST /gateway/v1/sandboxes/{id}/resume`.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ResumeRequest {
    /// How long to hold the answer while the sandbox is not running yet, in milliseconds.
    #[serde(default)]
    pub wait_ms: u64,
    /// Nobody authenticated: the request came to a public port, and the limit for those applies.
    #[serde(default)]
    pub public: bool,
}

/// Answer of the change feed.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Changes {
    /// Opaque; to be sent as `since` with the next call.
    pub revision: String,
    /// What changed between `since` and `revision` is not known (the first call, a `since` that is
    /// too old or of another store): forget everything.
    #[serde(default)]
    pub reset: bool,
    /// What to forget. Empty when the wait ended without a change.
    #[serde(default)]
    pub changes: Vec<Change>,
}

/// One thing to forget.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Change {
    /// A sandbox was created, changed or deleted.
    Sandbox {
        /// Its id, its name, and the name that it had before, if that changed.
        refs: Vec<String>,
    },
    /// A credential was revoked, or its owner's memberships changed.
    Principal {
        /// As in [`Identity::principal`].
        id: PrincipalId,
    },
}

/// Answer to a sidecar's long poll for its sandbox's network policy.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SandboxNetworkPolicy {
    /// Canonical id of the sandbox.
    pub sandbox_id: SandboxId,
    /// Opaque; to be sent as `since` with the next call. The same as before when the wait ended
    /// without a change.
    pub revision: String,
    /// Where the sandbox may connect to. A key that the reader does not know makes the policy one
    /// that it can't enforce: it keeps the one that it has.
    pub network_policy: NetworkPolicy,
}

/// Body of every error answer, on all of Sandgate's APIs.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ErrorBody {
    /// A sentence for a person: what is wrong, and what to do.
    pub error: String,
    /// Stable, for programs.
    pub code: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_state_is_its_form_in_json() {
        for state in SandboxState::ALL {
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
            assert_eq!(SandboxState::parse(state.as_str()), Some(state));
        }
        assert_eq!(SandboxState::parse("Running"), None);
    }
}
