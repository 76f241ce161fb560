//! What stands in the place of Sandgate's filter in the other ways.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{
    FORWARD_PROXY, decision_place, each_manager, http_filters, sandbox_clusters, set_filter_state,
};
use crate::world::World;

const LUA: &str = include_str!("alternatives/decision.lua");
/// A wasm filter with all callbacks of a request and of a connection, of which none does anything.
const NOOP: &str = include_str!("alternatives/noop.wat");

/// Leaves only what a forward proxy needs: the filter that sets the upstream, the DNS cache, and the router.
pub(super) fn bare(config: &mut Value, state: &[(&str, String)]) -> Result<()> {
    each_manager(config, |manager| {
        let filters = http_filters(manager)?;
        let needed = [FORWARD_PROXY, "envoy.filters.http.router"];
        filters.retain(|filter| {
            needed.iter().any(|name| filter.get("name").is_some_and(|it| it == name))
        });
        filters.insert(0, set_filter_state(state));
        let manager = manager.as_object_mut().context("no connection manager")?;
        manager.remove("early_header_mutation_extensions");
        Ok(())
    })?;
    remove_everywhere(config, "resolved_address_filter");
    for cluster in sandbox_clusters(config)? {
        remove_everywhere(cluster, "http_filters");
    }
    Ok(())
}

fn remove_everywhere(value: &mut Value, field: &str) {
    match value {
        Value::Object(object) => {
            object.remove(field);
            object.values_mut().for_each(|value| remove_everywhere(value, field));
        }
        Value::Array(items) => items.iter_mut().for_each(|value| remove_everywhere(value, field)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Connects to the address in the filter state, without a DNS cache.
pub(super) fn to_original_destination(config: &mut Value) -> Result<()> {
    each_manager(config, |manager| {
        http_filters(manager)?
            .retain(|filter| filter.get("name").is_some_and(|it| it != FORWARD_PROXY));
        Ok(())
    })?;
    for cluster in sandbox_clusters(config)? {
        let cluster = cluster.as_object_mut().context("a cluster")?;
        cluster.remove("cluster_type");
        cluster.insert("type".to_owned(), json!("ORIGINAL_DST"));
    }
    Ok(())
}

/// Puts other filters into the place of the filter of Sandgate.
pub(super) fn replace(config: &mut Value, others: &[Value]) -> Result<()> {
    each_manager(config, |manager| {
        let filters = http_filters(manager)?;
        let place = decision_place(filters)?;
        filters.splice(place..=place, others.iter().cloned());
        Ok(())
    })
}

/// The same decision as a script: a table of sandboxes, one of keys, and the headers that an app gets.
pub(super) fn lua(config: &mut Value, world: &World) -> Result<()> {
    let code = LUA
        .replace("API_KEY", &world.owner.api_key)
        .replace("DOMAIN", &sandgate_stack::control_plane::DOMAIN.replace('.', "%."));
    let filter = json!({
        "name": "envoy.filters.http.lua",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
            "default_source_code": { "inline_string": code },
        },
    });
    replace(config, &[filter])
}

/// An authorization service chooses the upstream by a header.
pub(super) fn ext_authz(config: &mut Value, world: &World, is_grpc: bool) -> Result<()> {
    const TYPE: &str = "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz";
    let (settings, protocol) = if is_grpc {
        let settings = json!({
            "@type": TYPE,
            "transport_api_version": "V3",
            "grpc_service": { "envoy_grpc": { "cluster_name": "authz" }, "timeout": "2s" },
        });
        (settings, "http2_protocol_options")
    } else {
        let settings = json!({
            "@type": TYPE,
            "transport_api_version": "V3",
            "allowed_headers": { "patterns": [{ "exact": "authorization" }, { "exact": "cookie" }] },
            "http_service": {
                "server_uri": { "uri": format!("http://{}", world.authz_address), "cluster": "authz", "timeout": "2s" },
                "authorization_response": {
                    "allowed_upstream_headers": { "patterns": [{ "exact": "x-upstream" }, { "exact": "x-principal" }] },
                },
            },
        });
        (settings, "http_protocol_options")
    };
    let chosen = set_filter_state(&[
        ("envoy.upstream.dynamic_host", "%REQUEST_HEADER(x-upstream)%".to_owned()),
        ("envoy.upstream.dynamic_port", world.port.to_string()),
    ]);
    let filter = json!({ "name": "envoy.filters.http.ext_authz", "typed_config": settings });
    replace(config, &[filter, chosen])?;
    let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let cluster = json!({
        "name": "authz",
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": "authz",
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": { "socket_address": {
                "address": world.authz_address.ip().to_string(),
                "port_value": world.authz_address.port(),
            } } } }] }],
        },
        "typed_extension_protocol_options": { options: {
            "@type": format!("type.googleapis.com/{options}"),
            "explicit_http_config": { protocol: {} },
        } },
    });
    let clusters = config.pointer_mut("/static_resources/clusters").and_then(Value::as_array_mut);
    clusters.context("no clusters")?.push(cluster);
    Ok(())
}

/// A wasm filter that does nothing, in front of one upstream for all requests.
pub(super) fn noop(config: &mut Value, state: &[(&str, String)], folder: &Path) -> Result<()> {
    replace(config, &[noop_filter("http", folder)?, set_filter_state(state)])
}

/// The filter that does nothing, as an `http` or a `network` filter.
pub(crate) fn noop_filter(kind: &str, folder: &Path) -> Result<Value> {
    let file = folder.join("noop.wasm");
    std::fs::write(&file, wat::parse_str(NOOP)?)?;
    Ok(json!({
        "name": "bench.noop",
        "typed_config": {
            "@type": format!("type.googleapis.com/envoy.extensions.filters.{kind}.wasm.v3.Wasm"),
            "config": {
                "name": "noop",
                "root_id": "noop",
                "vm_config": {
                    "vm_id": "noop",
                    "runtime": "envoy.wasm.runtime.v8",
                    "code": { "local": { "filename": file.display().to_string() } },
                },
            },
        },
    }))
}
