//! The desired state of an xDS server, from the values of an edge.

use std::path::Path;

use sandgate_envoy_config::Edge;
use serde_json::{Value, json};

/// The content of the file. `gateway_token_file` and `certificate` are files of the control plane.
#[must_use]
pub fn desired_state(edge: &Edge, gateway_token_file: &Path, certificate: &Path) -> Value {
    json!({
        "version": 1,
        "edge": {
            "domain": edge.domain,
            "second_domain": edge.second_domain,
            "api_host": edge.api_host,
            "sandbox_network": format!("{}/{}", edge.sandbox_network, edge.sandbox_prefix_len),
            "edge_address": edge.address,
            "edge_port": edge.port,
            "edge_tls_port": edge.tls_port,
            "certificate": certificate,
            "listener_filters": edge.listener_filters,
            "trusted_hops": edge.trusted_hops,
            "admin_port": edge.admin_port,
            "control_plane_address": edge.control_plane_address,
            "api_port": edge.api_port,
            "gateway_port": edge.gateway_port,
            "gateway_token_file": gateway_token_file,
            "filters": edge.filters.name(),
            "wasm": edge.wasm,
            "native": edge.native,
            "upstream": edge.upstream.name(),
            "stream_idle_timeout_seconds": edge.stream_idle_timeout.as_secs(),
            "trusted_origins": edge.trusted_origins,
            "ingress_limits": edge.ingress_limits,
            "edge_heap": edge.heap,
            "edge_connections": edge.connections,
        },
    })
}
