//! A sandbox as owners see it: the union of what the clients read.

use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::openapi::{KeptFields, Resources, ShownNetworkPolicy, Status};
use super::spec::SPEC;
use super::{PublicUrls, network};
use crate::model::{Sandbox, Spec, join_ports, state_name};

/// Answer to get, list, patch, delete, suspend and resume.
#[derive(Serialize, ToSchema)]
pub(super) struct SandboxInfo {
    /// Canonical id: 21 of `a-z0-9`.
    id: String,
    #[serde(flatten)]
    facts: Facts,
    /// What the change did that its author may not have meant. Only in the answer to patch.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    warnings: Vec<String>,
}

/// Answer to create: the same, but the id has another name. Never both: clients treat the two as
/// one field, and refuse it twice.
#[derive(Serialize, ToSchema)]
pub(super) struct CreatedSandbox {
    /// Canonical id: 21 of `a-z0-9`.
    sandbox_id: String,
    /// The status under another name, in the answer 202.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    state: Option<&'static str>,
    #[serde(flatten)]
    facts: Facts,
}

/// Part of a project's sandboxes.
#[derive(Serialize, ToSchema)]
pub(super) struct SandboxList {
    /// In the order in which they were made.
    pub(super) sandboxes: Vec<SandboxInfo>,
    /// Send it as `cursor` to get the next part; null: there is none.
    pub(super) next_cursor: Option<String>,
}

/// What both answers say.
#[derive(Serialize, ToSchema)]
struct Facts {
    /// The path's namespace; it means nothing else.
    namespace: String,
    /// The owner's name for it; null: it is ephemeral.
    #[schema(required)]
    name: Option<String>,
    /// Where it is in its life. `timeout` only in the answer 504 to create.
    #[schema(value_type = Status)]
    status: &'static str,
    /// Which project it is in.
    project_id: String,
    /// What the owner asked for, and defaults for what clients can't do without.
    #[schema(value_type = Resources)]
    resources: Map<String, Value>,
    /// Ports that requests may reach, sorted.
    exposed_ports: Vec<u16>,
    /// Exposed ports need no credential.
    allow_unauthenticated_access: bool,
    /// A request may resume it.
    auto_resume: bool,
    /// What it may send to.
    #[schema(value_type = ShownNetworkPolicy)]
    network_policy: Value,
    /// The same, under the name that some clients read.
    #[schema(value_type = ShownNetworkPolicy)]
    network: Value,
    /// Where its management API is; also while it is suspended, as a request there resumes it.
    sandbox_url: String,
    /// The origin before whose host `<port>-<id>.` is put.
    ingress_endpoint: String,
    /// Milliseconds since 1970.
    created_at: i64,
    /// What else its owner sent at creation, as it was sent; null or absent: nothing.
    #[serde(flatten)]
    #[schema(value_type = KeptFields)]
    kept: Map<String, Value>,
}

impl SandboxInfo {
    pub(super) fn new(sandbox: &Sandbox, namespace: &str, urls: &PublicUrls) -> Self {
        let facts = Facts::new(sandbox, namespace, urls);
        Self { id: sandbox.id.to_string(), facts, warnings: Vec::new() }
    }

    /// Adds the warning that these ports became public, if there are any.
    pub(super) fn opened(mut self, ports: &[u16]) -> Self {
        if !ports.is_empty() {
            self.warnings.push(format!(
                "the ports {} are public now, so everybody can reach them without a credential: \
                 `allow_unauthenticated_access` holds for all exposed ports; to undo this, send \
                 `{{\"allow_unauthenticated_access\": false}}`",
                join_ports(ports)
            ));
        }
        self
    }
}

impl CreatedSandbox {
    pub(super) fn new(sandbox: &Sandbox, namespace: &str, urls: &PublicUrls) -> Self {
        let facts = Facts::new(sandbox, namespace, urls);
        Self { sandbox_id: sandbox.id.to_string(), state: None, facts }
    }

    /// It is not waited for.
    pub(super) fn accepted(mut self) -> Self {
        self.state = Some(self.facts.status);
        self
    }

    /// It did not run in time. Clients know this word for that.
    pub(super) fn late(mut self) -> Self {
        self.facts.status = "timeout";
        self
    }
}

impl Facts {
    fn new(sandbox: &Sandbox, namespace: &str, urls: &PublicUrls) -> Self {
        let policy = network::show(&sandbox.network);
        Self {
            namespace: namespace.to_owned(),
            name: sandbox.name.as_ref().map(ToString::to_string),
            status: state_name(sandbox.state),
            project_id: sandbox.project_id.clone(),
            resources: resources(&sandbox.spec),
            exposed_ports: sandbox.exposed_ports.as_slice().to_vec(),
            allow_unauthenticated_access: sandbox.allow_unauthenticated_access,
            auto_resume: sandbox.auto_resume,
            network_policy: policy.clone(),
            network: policy,
            sandbox_url: urls.sandbox(sandbox.id.as_str()),
            ingress_endpoint: urls.ingress(),
            created_at: sandbox.created_at.millis(),
            kept: kept(&sandbox.spec),
        }
    }
}

/// All that was sent along, and null for what was not; but the clients refuse null for a list of
/// file systems.
fn kept(spec: &Spec) -> Map<String, Value> {
    let names = SPEC.iter().filter(|name| **name != "resources");
    let entry = |name: &&str| {
        let missing = if *name == "file_systems" { json!([]) } else { Value::Null };
        ((*name).to_owned(), spec.get(*name).cloned().unwrap_or(missing))
    };
    names.map(entry).collect()
}

/// Clients require these numbers; what the owner sent wins.
fn resources(spec: &Spec) -> Map<String, Value> {
    let defaults = [
        ("cpus", json!(1.0)),
        ("memory_mb", json!(1024)),
        ("disk_mb", json!(10_240)),
        ("ephemeral_disk_mb", json!(10_240)),
    ];
    let mut all: Map<_, _> =
        defaults.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    if let Some(Value::Object(sent)) = spec.get("resources") {
        let meant = sent.iter().filter(|(_, value)| !value.is_null());
        all.extend(meant.map(|(name, value)| (name.clone(), value.clone())));
    }
    all
}
