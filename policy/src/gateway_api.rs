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
//! | `POST /gateway/v1/denials` with [`InboundReport`](crate::denials::InboundReport) | 204, 404 (not supported) |
//! | `POST /gateway/v1/sandboxes/{id}/denials` with [`Denials`](crate::denials::Denials) | 204, 404 (not supported) |
//! | `GET /gateway/v1/changes?since=R&wait_ms=25000&watcher=W` | 200 [`Changes`] |
//!
//! Every response has the [`MARKER_HEADER`]. Envoy reports its own failures as responses with 503 and 504, so a
//! response without the marker means that the control plane is unavailable.

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::egress::NetworkPolicy;
use crate::ids::{OrganizationId, PrincipalId, ProjectId, SandboxId};

/// The header that every response of the gateway API has, with the value [`MARKER_VALUE`].
pub const MARKER_HEADER: &str = "x-sandgate-control-plane";
/// The version of the gateway API that a response follows.
pub const MARKER_VALUE: &str = "v1";

/// The lifecycle state of a sandbox.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum SandboxState {
    /// The sandbox is being created, and will run without another request.
    Pending,
    /// The sandbox runs and serves requests.
    Running,
    /// A snapshot is being taken. The sandbox will serve requests again without another request.
    Snapshotting,
    /// The sandbox is being suspended.
    Suspending,
    /// The sandbox is suspended and can be resumed, or a resume is in progress. A request joins a resume in progress.
    Suspended,
    /// The sandbox is terminated and will never run again.
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

/// A sandbox, with what the ingress filter needs for its decisions.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Sandbox {
    /// Canonical id: 21 characters of `[a-z0-9]`.
    pub id: SandboxId,
    /// The name that the owner gave it. A sandbox without a name is ephemeral and is never resumed.
    #[serde(default)]
    pub name: Option<String>,
    /// The organization that owns the project.
    pub organization_id: OrganizationId,
    /// The project that the sandbox belongs to.
    pub project_id: ProjectId,
    /// The lifecycle state.
    pub state: SandboxState,
    /// The IP address of its ports. Absent while it has no address.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub address: Option<std::net::IpAddr>,
    /// The user ports that requests may reach: sorted, without duplicates, never 9501.
    #[serde(default)]
    pub exposed_ports: Vec<u16>,
    /// Whether the exposed user ports are public, so that no credential is needed.
    #[serde(default)]
    pub allow_unauthenticated_access: bool,
    /// Whether a request may resume the sandbox while it is suspended.
    #[serde(default = "yes")]
    pub auto_resume: bool,
    /// The address generation, which increases each time the sandbox gets an address. Upstream connections are never
    /// shared between two address generations.
    pub generation: u64,
}

fn yes() -> bool {
    true
}

/// The kind of a credential.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum CredentialKind {
    /// An API key, which belongs to one project.
    ApiKey,
    /// A personal access token of a user, used for the project that the request names.
    PersonalAccessToken,
    /// A browser session of a user, used for the project that the request names.
    Session,
}

/// The body of `POST /gateway/v1/credentials/introspect`. It has no `Debug`, because it holds a secret.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct IntrospectRequest {
    /// The kind of the credential.
    pub kind: CredentialKind,
    /// The secret, as the client sent it.
    pub secret: String,
    /// The organization that the client claims to act in. Present with every personal access token and session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization_id: Option<OrganizationId>,
    /// The project that the client claims to act in. Present with every personal access token and session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_id: Option<ProjectId>,
}

/// The response to an introspection.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Introspection {
    /// The identity. Absent if the credential is unknown, revoked, expired, or of another kind.
    pub identity: Option<Identity>,
}

/// The principal of a credential, and the projects in which it may act.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Identity {
    /// The id of the API key or of the user. It is not secret. The change feed contains it when the credential or its
    /// projects change.
    pub principal: PrincipalId,
    /// The organization in which the principal acts.
    pub organization_id: OrganizationId,
    /// The projects in which the principal may act, of those that the request names. Empty if the credential is valid
    /// but its user is not a member of the named project.
    pub project_ids: Vec<ProjectId>,
    /// The time at which the credential expires, in seconds since the Unix epoch. Absent if it does not expire.
    #[serde(default)]
    pub expires_at: Option<u64>,
}

/// The body of `POST /gateway/v1/sandboxes/{id}/resume`.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ResumeRequest {
    /// The maximum time to wait until the sandbox runs, in milliseconds.
    #[serde(default)]
    pub wait_ms: u64,
    /// Whether the request was sent to a public port without authentication, so that the rate limit of public resumes
    /// applies.
    #[serde(default)]
    pub public: bool,
}

/// The response of the change feed.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Changes {
    /// An opaque value, which the client sends as `since` in its next call.
    pub revision: String,
    /// Whether the client must invalidate all its cache entries, because the changes since `since` are not known: in
    /// the first call, or if `since` is too old or from another store.
    #[serde(default)]
    pub reset: bool,
    /// The changes. Empty if the wait ended without a change.
    #[serde(default)]
    pub changes: Vec<Change>,
}

impl Changes {
    /// Parses the JSON body of a response. If one of the changes can't be read, such as one of an unknown kind, the
    /// result is a reset without changes, so that this change hides no other one.
    ///
    /// # Errors
    /// The body is not a response of the change feed, whatever its changes are.
    pub fn from_json(json: &[u8]) -> serde_json::Result<Self> {
        /// A response whose changes are not read.
        #[derive(Deserialize)]
        struct Unread {
            revision: String,
            #[serde(rename = "reset", default)]
            _reset: bool,
            #[serde(rename = "changes")]
            _changes: IgnoredAny,
        }
        serde_json::from_slice(json).or_else(|_| {
            let Unread { revision, .. } = serde_json::from_slice(json)?;
            Ok(Self { revision, reset: true, changes: Vec::new() })
        })
    }
}

/// A change that invalidates cache entries.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Change {
    /// A sandbox was created, changed or deleted.
    Sandbox {
        /// The id of the sandbox, its name, and its previous name if the name changed.
        refs: Vec<String>,
    },
    /// A credential was revoked, or its owner's memberships changed.
    Principal {
        /// The id of the principal, as in `Identity`.
        id: PrincipalId,
    },
}

/// The response to a sidecar's long poll for the network policy of its sandbox.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SandboxNetworkPolicy {
    /// The canonical id of the sandbox.
    pub sandbox_id: SandboxId,
    /// An opaque value, which the client sends as `since` in its next call. It is unchanged if the wait ended without a
    /// change.
    pub revision: String,
    /// The network policy of the sandbox. If it has an unknown key, the client can't enforce it and keeps its current
    /// policy.
    #[serde(deserialize_with = "crate::egress::network_policy::deserialize_accepted")]
    pub network_policy: NetworkPolicy,
}

/// The body of every error response of Sandgate's APIs.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ErrorBody {
    /// The message for people: what is wrong, and what to do.
    pub error: String,
    /// The stable code, for programs.
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
