//! The responses that contain sandboxes: the union of the fields that the clients read.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use sandgate_policy::egress::Entry;
use sandgate_policy::egress::NetworkPolicy;
use sandgate_policy::gateway_api::SandboxState;
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::target::Target;
use crate::model::{Sandbox, Spec, join_ports};

/// The response to get, list, patch, delete, suspend and resume.
#[derive(Serialize, ToSchema)]
pub(super) struct SandboxInfo {
    /// Canonical id: 21 characters of `a-z` and `0-9`.
    id: String,
    #[serde(flatten)]
    fields: SandboxFields,
    /// Effects of the change that its author may not have intended. Only in the response to patch.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    warnings: Vec<String>,
}

/// The response to create. It has the fields of the other responses, but the id is named `sandbox_id`. No response has
/// both names, because clients treat them as one field and refuse a duplicate.
#[derive(Serialize, ToSchema)]
pub(super) struct CreatedSandbox {
    /// Canonical id: 21 characters of `a-z` and `0-9`.
    sandbox_id: String,
    /// The same as `status`. Only in the response 202.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    state: Option<Status>,
    #[serde(flatten)]
    fields: SandboxFields,
}

/// A page of the sandboxes of a project.
#[derive(Serialize, ToSchema)]
pub(super) struct SandboxList {
    /// The sandboxes in the order of their creation.
    pub(super) sandboxes: Vec<SandboxInfo>,
    /// The `cursor` of the next page; null on the last page.
    pub(super) next_cursor: Option<String>,
}

/// The fields that all responses share.
#[derive(Serialize, ToSchema)]
struct SandboxFields {
    /// The namespace of the path. It has no other meaning.
    namespace: String,
    /// The name that the owner gave the sandbox; null if it has none, so that it is ephemeral.
    #[schema(required)]
    name: Option<String>,
    status: Status,
    /// The project of the sandbox.
    project_id: String,
    resources: Resources,
    /// The ports that requests can reach, sorted.
    exposed_ports: Vec<u16>,
    /// Whether the exposed ports accept requests without a credential.
    allow_unauthenticated_access: bool,
    /// Whether a request resumes the sandbox while it is suspended.
    auto_resume: bool,
    network_policy: ShownNetworkPolicy,
    /// The same as `network_policy`, under the name that some clients read.
    network: ShownNetworkPolicy,
    /// The URL of the sandbox's management API. A request to it resumes a suspended sandbox.
    sandbox_url: String,
    /// The origin of the proxy. Clients put `<port>-<id>.` in front of its host.
    ingress_endpoint: String,
    /// Milliseconds since the Unix epoch.
    created_at: i64,
    #[serde(flatten)]
    kept: KeptFields,
}

/// The state of a sandbox.
#[derive(Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Status {
    Pending,
    Running,
    Snapshotting,
    Suspending,
    Suspended,
    Terminated,
    /// The sandbox did not run in time. Only in the response 504 to create, because clients expect this value there.
    Timeout,
}

/// The resources that the owner requested, and defaults for those that clients require. Can have other fields.
#[derive(Serialize, ToSchema)]
struct Resources {
    #[schema(value_type = f64)]
    cpus: Value,
    #[schema(value_type = u64)]
    memory_mb: Value,
    #[schema(value_type = u64)]
    disk_mb: Value,
    #[schema(value_type = u64)]
    ephemeral_disk_mb: Value,
    #[serde(flatten)]
    #[schema(ignore)]
    others: Map<String, Value>,
}

/// The destinations that the sandbox may send to.
#[derive(Clone, Serialize, ToSchema)]
struct ShownNetworkPolicy {
    allow_internet_access: bool,
    #[schema(value_type = Vec<String>)]
    allow_out: Vec<Entry>,
    #[schema(value_type = Vec<String>)]
    deny_out: Vec<Entry>,
}

/// The other fields that the owner sent, as they were sent; null if absent.
#[derive(Serialize, ToSchema)]
struct KeptFields {
    #[schema(required, value_type = Option<String>)]
    image: Value,
    #[schema(required, value_type = Option<u64>)]
    timeout_secs: Value,
    #[schema(required, value_type = Option<Vec<String>>)]
    entrypoint: Value,
    #[schema(required, value_type = Option<String>)]
    snapshot_id: Value,
    /// An empty list if absent, because clients refuse null here.
    #[schema(required, value_type = Vec<Object>)]
    file_systems: Value,
    #[schema(required, value_type = Option<u64>)]
    max_pending_secs: Value,
    #[schema(required, value_type = Option<Vec<String>>)]
    secret_names: Value,
    #[schema(required, value_type = Option<String>)]
    template_id: Value,
    #[schema(required, value_type = Option<String>)]
    pool_id: Value,
    #[schema(required, value_type = Option<Object>)]
    metadata: Value,
}

impl SandboxInfo {
    pub(super) fn new(sandbox: &Sandbox, target: &Target) -> Self {
        let fields = SandboxFields::new(sandbox, target);
        Self { id: sandbox.id.to_string(), fields, warnings: Vec::new() }
    }

    /// Adds a warning if the change made `ports` public.
    pub(super) fn with_ports_made_public(mut self, ports: &[u16]) -> Self {
        if !ports.is_empty() {
            self.warnings.push(format!(
                "the ports {} are public now: everybody can reach them without a credential, because \
                 `allow_unauthenticated_access` applies to all exposed ports; to undo this, send \
                 `{{\"allow_unauthenticated_access\": false}}`",
                join_ports(ports)
            ));
        }
        self
    }

    pub(super) fn into_response(self, status: StatusCode) -> Response {
        (status, Json(self)).into_response()
    }
}

impl CreatedSandbox {
    pub(super) fn new(sandbox: &Sandbox, target: &Target) -> Self {
        let fields = SandboxFields::new(sandbox, target);
        Self { sandbox_id: sandbox.id.to_string(), state: None, fields }
    }

    /// The response 200.
    pub(super) fn running(self) -> Response {
        Json(self).into_response()
    }

    /// The response 202: the caller does not wait until the sandbox runs.
    pub(super) fn accepted(mut self) -> Response {
        self.state = Some(self.fields.status);
        (StatusCode::ACCEPTED, Json(self)).into_response()
    }

    /// The response 504: the sandbox did not run in time.
    pub(super) fn timed_out(mut self) -> Response {
        self.fields.status = Status::Timeout;
        (StatusCode::GATEWAY_TIMEOUT, Json(self)).into_response()
    }
}

impl SandboxFields {
    fn new(sandbox: &Sandbox, target: &Target) -> Self {
        let policy = ShownNetworkPolicy::from(&sandbox.network_policy);
        Self {
            namespace: target.namespace.clone(),
            name: sandbox.name.as_ref().map(ToString::to_string),
            status: sandbox.state.into(),
            project_id: sandbox.project_id.to_string(),
            resources: Resources::new(&sandbox.spec),
            exposed_ports: sandbox.exposed_ports.as_slice().to_vec(),
            allow_unauthenticated_access: sandbox.allow_unauthenticated_access,
            auto_resume: sandbox.auto_resume,
            network_policy: policy.clone(),
            network: policy,
            sandbox_url: target.urls.sandbox(sandbox.id.as_str()),
            ingress_endpoint: target.urls.ingress(),
            created_at: sandbox.created_at.millis(),
            kept: KeptFields::new(&sandbox.spec),
        }
    }
}

impl From<SandboxState> for Status {
    fn from(state: SandboxState) -> Self {
        match state {
            SandboxState::Pending => Self::Pending,
            SandboxState::Running => Self::Running,
            SandboxState::Snapshotting => Self::Snapshotting,
            SandboxState::Suspending => Self::Suspending,
            SandboxState::Suspended => Self::Suspended,
            SandboxState::Terminated => Self::Terminated,
        }
    }
}

impl From<&NetworkPolicy> for ShownNetworkPolicy {
    fn from(policy: &NetworkPolicy) -> Self {
        Self {
            allow_internet_access: policy.allow_internet_access,
            allow_out: policy.allow_out.clone(),
            deny_out: policy.deny_out.clone(),
        }
    }
}

impl Resources {
    fn new(spec: &Spec) -> Self {
        let requested = spec.get("resources").and_then(Value::as_object).into_iter().flatten();
        // A null has the same meaning as an absent field.
        let mut others: Map<_, _> = requested
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let mut take = |name: &str, default: Value| others.remove(name).unwrap_or(default);
        Self {
            cpus: take("cpus", json!(1.0)),
            memory_mb: take("memory_mb", json!(1_024)),
            disk_mb: take("disk_mb", json!(10_240)),
            ephemeral_disk_mb: take("ephemeral_disk_mb", json!(10_240)),
            others,
        }
    }
}

impl KeptFields {
    fn new(spec: &Spec) -> Self {
        let field = |name: &str| spec.get(name).cloned().unwrap_or_default();
        Self {
            image: field("image"),
            timeout_secs: field("timeout_secs"),
            entrypoint: field("entrypoint"),
            snapshot_id: field("snapshot_id"),
            file_systems: spec.get("file_systems").cloned().unwrap_or_else(|| json!([])),
            max_pending_secs: field("max_pending_secs"),
            secret_names: field("secret_names"),
            template_id: field("template_id"),
            pool_id: field("pool_id"),
            metadata: field("metadata"),
        }
    }
}
