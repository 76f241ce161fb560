//! Envoy's configuration for each way out of a sandbox.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use sandgate_envoy_config::Filters;
use sandgate_stack::files::write_private;
use sandgate_stack::rendered::write_sidecar;
use serde_json::{Value, json};

use super::Way;
use crate::bootstrap::{Form, noop_filter, yaml};

/// The first of the ports of `sidecar.yaml`, and the one for connections without an inspection.
const PORTS: u16 = 15_000;
const PLAIN_PORT: u16 = 15_001;
/// The distance between the ports of two Envoys.
const DISTANCE: u16 = 100;

/// A rule of each kind. The addresses of the benchmark count as the internet.
const POLICY: &str = r#"{"version":1,"generation":1,"operator":{"also_global":["203.0.113.0/24"]},"policies":[{"allow_out":["10.0.0.0/8","*.example.com"],"deny_out":["bad.example.net","192.0.2.0/24"]}]}"#;

/// The port of an Envoy for connections from the sandbox.
pub(super) const fn port(number: u16) -> u16 {
    PLAIN_PORT + number * DISTANCE
}

/// Whether the egress filter is built in this form.
pub(super) fn is_built(form: Form) -> bool {
    sandgate_stack::artifacts::egress_filter(filters(form)).is_ok()
}

fn filters(form: Form) -> Filters {
    match form {
        Form::Wasm => Filters::Wasm,
        Form::Native => Filters::Native,
    }
}

/// Writes the files of one Envoy; returns the bootstrap.
pub(super) fn write(way: Way, number: u16, folder: &Path) -> Result<PathBuf> {
    let config = match way {
        Way::Direct | Way::Bare => tcp_proxy(port(number)),
        Way::WithoutFilter | Way::Noop | Way::Filter(_) => {
            let form = if let Way::Filter(form) = way { form } else { Form::Wasm };
            let bootstrap = write_sidecar(folder, filters(form), POLICY)?;
            let mut config = yaml::parse(&std::fs::read_to_string(bootstrap)?)?;
            move_ports(&mut config, number * DISTANCE);
            if !matches!(way, Way::Filter(_)) {
                let mut filters = vec![to_original()];
                if way == Way::Noop {
                    filters.insert(0, noop_filter("network", folder)?);
                }
                let replaced = replace(&mut config, "sandgate_egress_tcp", &filters)
                    + replace(&mut config, "sandgate_egress_http", &[to_original_http()]);
                ensure!(replaced > 1, "sidecar.yaml has no filters of Sandgate");
            }
            config
        }
    };
    let file = folder.join("envoy.json");
    write_private(&file, &serde_json::to_string_pretty(&config)?)?;
    Ok(file)
}

/// An Envoy with nothing but `tcp_proxy`, and the buffers of `sidecar.yaml`.
fn tcp_proxy(port: u16) -> Value {
    let kind = |name: &str| format!("type.googleapis.com/envoy.extensions.filters.{name}");
    json!({ "static_resources": {
        "listeners": [{
            "name": "bare",
            "address": { "socket_address": { "address": "0.0.0.0", "port_value": port } },
            "per_connection_buffer_limit_bytes": 131_072,
            "tcp_backlog_size": 4096,
            "max_connections_to_accept_per_socket_event": 64,
            "listener_filters": [{
                "name": "envoy.filters.listener.original_dst",
                "typed_config": { "@type": kind("listener.original_dst.v3.OriginalDst") },
            }],
            "filter_chains": [{ "filters": [{
                "name": "envoy.filters.network.tcp_proxy",
                "typed_config": {
                    "@type": kind("network.tcp_proxy.v3.TcpProxy"),
                    "stat_prefix": "bare",
                    "cluster": "original_destination",
                    "idle_timeout": "0s",
                },
            }] }],
        }],
        "clusters": [{
            "name": "original_destination",
            "type": "ORIGINAL_DST",
            "lb_policy": "CLUSTER_PROVIDED",
            "connect_timeout": "30s",
            "per_connection_buffer_limit_bytes": 131_072,
            "circuit_breakers": { "thresholds": [{
                "max_connections": 100_000, "max_pending_requests": 100_000, "max_requests": 100_000,
            }] },
        }],
    } })
}

/// Several Envoys share the gateway's namespace.
fn move_ports(value: &mut Value, by: u16) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                let port = value.as_u64().and_then(|port| u16::try_from(port).ok());
                match port {
                    Some(port) if name == "port_value" && port / DISTANCE == PORTS / DISTANCE => {
                        *value = json!(port + by);
                    }
                    _ => move_ports(value, by),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|value| move_ports(value, by)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Puts other filters in the place of all filters with a name; returns how many there are.
fn replace(value: &mut Value, name: &str, others: &[Value]) -> usize {
    match value {
        Value::Object(object) => {
            object.values_mut().map(|value| replace(value, name, others)).sum()
        }
        Value::Array(items) => {
            let is_it = |item: &Value| item.get("name").is_some_and(|it| it == name);
            if let Some(place) = items.iter().position(is_it) {
                items.splice(place..=place, others.iter().cloned());
                return 1;
            }
            items.iter_mut().map(|item| replace(item, name, others)).sum()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

fn state(key: &str, text: &str) -> Value {
    json!({
        "object_key": key,
        "format_string": { "text_format_source": { "inline_string": text } },
    })
}

/// Connects to the original destination.
fn to_original() -> Value {
    json!({
        "name": "envoy.filters.network.set_filter_state",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.set_filter_state.v3.Config",
            "on_new_connection": [
                state("envoy.upstream.dynamic_host", ""),
                state("envoy.tcp_proxy.cluster", "original_destination"),
            ],
        },
    })
}

fn to_original_http() -> Value {
    json!({
        "name": "bench.original",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.set_filter_state.v3.Config",
            "on_request_headers": [
                state("envoy.upstream.dynamic_host", "%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%"),
                state("envoy.upstream.dynamic_port", "%DOWNSTREAM_LOCAL_PORT%"),
            ],
        },
    })
}
