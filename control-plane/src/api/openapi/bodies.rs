//! What the bodies of create and patch may hold, as JSON Schema. The rules themselves are in
//! `requests.rs` and `spec.rs`, which have words for each mistake; here they are said again for
//! programs, from the same constants.

use sandgate_policy::egress::network_policy::ENTRIES_MAX;
use sandgate_policy::ingress::port::MANAGEMENT_PORT;
use serde_json::{Map, Value, json};

use crate::api::fields::MAX_WHOLE;
use crate::api::requests::MAX_PORTS;
use crate::api::spec::{CHANGEABLE_SPEC, SPEC};
use crate::model::SandboxName;

/// By name.
pub(super) fn schemas() -> Map<String, Value> {
    let all = [
        ("CreateSandbox", create()),
        ("PatchSandbox", patch()),
        ("ExposedPorts", ports()),
        ("SandboxName", name()),
        ("NetworkPolicy", network()),
        ("RequestedResources", resources()),
    ];
    all.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect()
}

fn create() -> Value {
    let mut fields = owners_fields();
    fields.insert("name".to_owned(), or_null(&reference("SandboxName")));
    fields.insert(
        "wait".to_owned(),
        described(nullable("boolean"), "Answer when it runs, which is the default, or at once."),
    );
    fields.extend(SPEC.iter().map(|name| ((*name).to_owned(), kept(name))));
    json!({
        "type": "object",
        "description": "A sandbox to be made. Null means the default, as if the field were absent.",
        "properties": fields,
        "additionalProperties": false,
        "not": both_names_of_the_flag(),
        // One without a name is never suspended.
        "anyOf": [
            { "properties": { "auto_resume": { "enum": [true, null] } } },
            { "properties": { "name": reference("SandboxName") }, "required": ["name"] },
        ],
    })
}

fn patch() -> Value {
    let mut fields = owners_fields();
    fields.insert("name".to_owned(), reference("SandboxName"));
    fields.extend(CHANGEABLE_SPEC.iter().map(|name| ((*name).to_owned(), kept(name))));
    json!({
        "type": "object",
        "description": "What to change: what is absent is kept, null means the default.",
        "properties": fields,
        "additionalProperties": false,
        "minProperties": 1,
        "not": both_names_of_the_flag(),
    })
}

fn owners_fields() -> Map<String, Value> {
    let flag = "Exposed ports need no credential. Off by default. It holds for all of them.";
    let fields = [
        ("exposed_ports", or_null(&reference("ExposedPorts"))),
        ("allow_unauthenticated_access", described(nullable("boolean"), flag)),
        (
            "allow_unauthenticated_proxy_access",
            described(nullable("boolean"), "The older name of `allow_unauthenticated_access`."),
        ),
        (
            "auto_resume",
            described(
                nullable("boolean"),
                "A request may resume it. On by default; off only for a sandbox with a name.",
            ),
        ),
        ("network", or_null(&reference("NetworkPolicy"))),
    ];
    fields.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect()
}

fn both_names_of_the_flag() -> Value {
    json!({ "required": ["allow_unauthenticated_access", "allow_unauthenticated_proxy_access"] })
}

fn ports() -> Value {
    json!({
        "type": "array",
        "description": "Ports that requests may reach. Sorted and deduplicated by the server. Never \
            9501, the management port, which is always reachable with a credential.",
        "maxItems": MAX_PORTS,
        "items": { "anyOf": [
            { "type": "integer", "minimum": 1, "maximum": MANAGEMENT_PORT - 1 },
            { "type": "integer", "minimum": MANAGEMENT_PORT + 1, "maximum": u16::MAX },
        ] },
    })
}

fn name() -> Value {
    json!({
        "type": "string",
        "description": "Unique in the deployment: a host name. Not `api` or `www`, not what looks \
            like an id (21 letters and digits), nothing that starts with `xn--`. Freed, it stays \
            with its project for 30 days.",
        "minLength": 1,
        "maxLength": SandboxName::MAX_LENGTH,
        "pattern": "^(?!(?:api|www)$)(?!xn--)(?![a-z0-9]{21}$)[a-z](?:[a-z0-9-]*[a-z0-9])?$",
    })
}

/// What an entry may be is more than a schema can say: see `docs/network-policy.md`.
fn network() -> Value {
    let entries = json!({
        "type": ["array", "null"],
        "items": {
            "type": "string",
            "description": "An address, a range like `10.0.0.0/8`, a name, or `*.example.com` for \
                every name below one. No port.",
            "minLength": 1,
        },
        "maxItems": ENTRIES_MAX,
    });
    json!({
        "type": "object",
        "description": "What the sandbox may send to; what is left out has its default. Where no \
            sidecars enforce it (`--egress none`), another policy than the default is refused with \
            `NETWORK_POLICY_UNSUPPORTED`.",
        "properties": {
            "allow_internet_access": { "type": ["boolean", "null"], "default": true },
            "allow_out": entries,
            "deny_out": entries,
        },
        "additionalProperties": false,
    })
}

fn resources() -> Value {
    let size = json!({ "type": ["integer", "null"], "minimum": 0, "maximum": MAX_WHOLE });
    json!({
        "type": "object",
        "description": "What to give it; may hold more than these. For the runtime.",
        "properties": {
            "cpus": { "type": ["number", "null"], "exclusiveMinimum": 0 },
            "memory_mb": size,
            "disk_mb": size,
            "ephemeral_disk_mb": size,
        },
    })
}

/// A field that networking has no use for.
fn kept(name: &str) -> Value {
    let schema = match name {
        "resources" => return or_null(&reference("RequestedResources")),
        "metadata" => nullable("object"),
        "timeout_secs" | "max_pending_secs" => {
            json!({ "type": ["integer", "null"], "minimum": 0, "maximum": MAX_WHOLE })
        }
        "entrypoint" | "secret_names" => {
            json!({ "type": ["array", "null"], "items": { "type": "string" } })
        }
        "file_systems" => json!({ "type": ["array", "null"], "items": { "type": "object" } }),
        _ => nullable("string"),
    };
    described(schema, "Kept, repeated in answers, and handed to the runtime.")
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn or_null(schema: &Value) -> Value {
    json!({ "anyOf": [schema, { "type": "null" }] })
}

fn nullable(kind: &str) -> Value {
    json!({ "type": [kind, "null"] })
}

fn described(mut schema: Value, description: &str) -> Value {
    if let Value::Object(schema) = &mut schema {
        schema.insert("description".to_owned(), json!(description));
    }
    schema
}
