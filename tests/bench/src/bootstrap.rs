//! Envoy's configuration for each way: `edge.yaml` as it is rendered for users, and what the other ways change in it.

mod alternatives;
pub(crate) mod yaml;

pub(crate) use alternatives::noop_filter;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use sandgate_envoy_config::{EDGE_LOG, Edge, GatewayToken, TlsCertificate};
use sandgate_stack::artifacts;
use sandgate_stack::files::write_private;
use serde_json::{Value, json};

use crate::world::{NETWORK, PRIVATE, World, sandbox_address};

/// How Envoy decides on a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Decision {
    /// None: the listener, the log and the routes of `edge.yaml`, with one upstream for all requests.
    Bare,
    /// As `Bare`, but each request names its address in a header.
    BareByHeader,
    /// As `BareByHeader`, over a cluster of type ORIGINAL_DST.
    BareOriginalDestination,
    /// All of `edge.yaml` except the filter, with one upstream for all requests.
    WithoutFilter,
    Lua,
    ExtAuthzHttp,
    ExtAuthzGrpc,
    /// A wasm filter that does nothing.
    Noop,
    /// `edge.yaml` with the filter in one of its forms.
    Filter(Form),
}

/// A form of the filters.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Form {
    Wasm,
    Native,
}

impl Form {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Wasm => "wasm",
            Self::Native => "native",
        }
    }

    /// Whether this form is built and the configuration knows it.
    pub(crate) fn is_built(self) -> bool {
        match self {
            Self::Wasm => artifacts::wasm_filter().is_file(),
            Self::Native => {
                let values = [("SANDGATE_FILTERS", "native")];
                artifacts::native_module().is_file()
                    && rendering_contains(&values, ".dynamic_modules.")
            }
        }
    }
}

/// Whether `edge.yaml` can be rendered for clusters of type ORIGINAL_DST.
pub(crate) fn has_original_destination() -> bool {
    rendering_contains(&[ORIGINAL_DESTINATION], "ORIGINAL_DST")
}

/// The setting for clusters of type ORIGINAL_DST.
pub(crate) const ORIGINAL_DESTINATION: (&str, &str) = ("SANDGATE_UPSTREAM", "original_dst");

/// Whether `edge.yaml` contains a word outside of comments if these values are set.
fn rendering_contains(values: &[(&str, &str)], word: &str) -> bool {
    let variable = |name: &str| {
        let set = values.iter().find(|(known, _)| *known == name);
        let usual = match name {
            "SANDGATE_SANDBOX_NETWORK" => NETWORK.0,
            "SANDGATE_SANDBOX_PREFIX_LEN" => NETWORK.1,
            "SANDGATE_DOMAIN" | "SANDGATE_CONTROL_PLANE_ADDRESS" => "sandbox.localhost",
            _ => "",
        };
        Some(set.map_or(usual, |(_, value)| value).to_owned()).filter(|text| !text.is_empty())
    };
    let folder = Path::new("/run");
    let text = Edge::from_environment(variable, folder, folder)
        .ok()
        .and_then(|edge| edge.render().ok())
        .unwrap_or_default();
    text.lines().any(|line| !line.trim_start().starts_with('#') && line.contains(word))
}

const SET_FILTER_STATE: &str =
    "type.googleapis.com/envoy.extensions.filters.http.set_filter_state.v3.Config";
const FORWARD_PROXY: &str = "envoy.filters.http.dynamic_forward_proxy";

/// The ports of one Envoy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub(crate) edge: u16,
    pub(crate) tls: u16,
    pub(crate) admin: u16,
}

/// Writes the files of one Envoy into a folder; returns the bootstrap.
pub(crate) fn write(
    world: &World,
    decision: Decision,
    more: &[(&str, &str)],
    ports: Ports,
    folder: &Path,
) -> Result<std::path::PathBuf> {
    let mut config = edge(world, decision, more, ports, folder)?;
    match decision {
        Decision::Filter(_) => {}
        Decision::Bare => alternatives::bare(&mut config, &upstream(world.port))?,
        Decision::BareByHeader => alternatives::bare(&mut config, &named(world.port))?,
        Decision::BareOriginalDestination => {
            let address = format!("%REQUEST_HEADER(x-address)%:{}", world.port);
            let key = "envoy.network.transport_socket.original_dst_address";
            alternatives::bare(&mut config, &[(key, address)])?;
            alternatives::to_original_destination(&mut config)?;
        }
        Decision::WithoutFilter => {
            alternatives::replace(&mut config, &[set_filter_state(&upstream(world.port))])?;
        }
        Decision::Lua => alternatives::lua(&mut config, world)?,
        Decision::ExtAuthzHttp => alternatives::ext_authz(&mut config, world, false)?,
        Decision::ExtAuthzGrpc => alternatives::ext_authz(&mut config, world, true)?,
        Decision::Noop => alternatives::noop(&mut config, &upstream(world.port), folder)?,
    }
    let file = folder.join("envoy.json");
    write_private(&file, &serde_json::to_string_pretty(&config)?)?;
    Ok(file)
}

/// `edge.yaml` for these ports.
fn edge(
    world: &World,
    decision: Decision,
    more: &[(&str, &str)],
    ports: Ports,
    folder: &Path,
) -> Result<Value> {
    let file = |name: &str| folder.join(name);
    write_private(&file("edge-log.yaml"), EDGE_LOG)?;
    let token = GatewayToken(World::gateway_token().to_owned());
    write_private(&file("gateway-token.yaml"), &token.render()?)?;
    sandgate_stack::pki::issue(folder)?;
    write_private(&file("tls-certificate.yaml"), &TlsCertificate(folder.to_owned()).render()?)?;
    let text = |path: std::path::PathBuf| path.display().to_string();
    let form = if let Decision::Filter(form) = decision { form } else { Form::Wasm };
    let mut values: BTreeMap<&str, String> = [
        ("SANDGATE_DOMAIN", sandgate_stack::control_plane::DOMAIN.to_owned()),
        ("SANDGATE_EDGE_ADDRESS", "127.0.0.1".to_owned()),
        ("SANDGATE_EDGE_PORT", ports.edge.to_string()),
        ("SANDGATE_EDGE_TLS_PORT", ports.tls.to_string()),
        ("SANDGATE_ADMIN_PORT", ports.admin.to_string()),
        ("SANDGATE_CONTROL_PLANE_ADDRESS", "127.0.0.1".to_owned()),
        ("SANDGATE_API_PORT", world.api.port().to_string()),
        ("SANDGATE_GATEWAY_PORT", world.gateway.port().to_string()),
        ("SANDGATE_SANDBOX_NETWORK", NETWORK.0.to_owned()),
        ("SANDGATE_SANDBOX_PREFIX_LEN", NETWORK.1.to_owned()),
        ("SANDGATE_WASM", text(artifacts::wasm_filter())),
        ("SANDGATE_NATIVE", text(artifacts::native_module())),
        ("SANDGATE_FILTERS", form.name().to_owned()),
        ("SANDGATE_EDGE_LOG", text(file("edge-log.yaml"))),
        ("SANDGATE_GATEWAY_TOKEN_SDS", text(file("gateway-token.yaml"))),
        ("SANDGATE_TLS_SDS", text(file("tls-certificate.yaml"))),
    ]
    .into();
    values.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
    let variable = |name: &str| values.get(name).cloned();
    yaml::parse(&Edge::from_environment(variable, folder, folder)?.render()?)
}

/// The filter state that sends all requests to one sandbox.
fn upstream(port: u16) -> [(&'static str, String); 2] {
    [
        ("envoy.upstream.dynamic_host", sandbox_address(PRIVATE).to_string()),
        ("envoy.upstream.dynamic_port", port.to_string()),
    ]
}

/// The filter state that sends a request to the address that it names.
fn named(port: u16) -> [(&'static str, String); 2] {
    [
        ("envoy.upstream.dynamic_host", "%REQUEST_HEADER(x-address)%".to_owned()),
        ("envoy.upstream.dynamic_port", port.to_string()),
    ]
}

/// A filter that sets filter state.
fn set_filter_state(entries: &[(&str, String)]) -> Value {
    let entries: Vec<Value> = entries
        .iter()
        .map(|(key, text)| {
            json!({
                "object_key": key,
                "format_string": { "text_format_source": { "inline_string": text } },
            })
        })
        .collect();
    json!({
        "name": "bench.upstream",
        "typed_config": { "@type": SET_FILTER_STATE, "on_request_headers": entries },
    })
}

/// Applies a change to the HTTP connection manager of each listener.
fn each_manager(
    config: &mut Value,
    mut change: impl FnMut(&mut Value) -> Result<()>,
) -> Result<()> {
    let listeners = config.pointer_mut("/static_resources/listeners").and_then(Value::as_array_mut);
    for listener in listeners.context("no listeners")? {
        let manager = listener.pointer_mut("/filter_chains/0/filters/0/typed_config");
        change(manager.context("a listener without a filter")?)?;
    }
    Ok(())
}

fn http_filters(manager: &mut Value) -> Result<&mut Vec<Value>> {
    let filters = manager.get_mut("http_filters").and_then(Value::as_array_mut);
    filters.context("a connection manager without filters")
}

/// The clusters that lead to sandboxes.
fn sandbox_clusters(config: &mut Value) -> Result<Vec<&mut Value>> {
    let clusters = config.pointer_mut("/static_resources/clusters").and_then(Value::as_array_mut);
    let clusters: Vec<&mut Value> = clusters
        .context("no clusters")?
        .iter_mut()
        .filter(|cluster| {
            let name = cluster.get("name").and_then(Value::as_str);
            name.is_some_and(|name| name.starts_with("sandbox_"))
        })
        .collect();
    ensure!(!clusters.is_empty(), "edge.yaml has no clusters for sandboxes");
    Ok(clusters)
}

/// The place of the filter of Sandgate among the HTTP filters.
fn decision_place(filters: &[Value]) -> Result<usize> {
    let is_decision = |filter: &Value| {
        let kind = filter.pointer("/typed_config/@type").and_then(Value::as_str);
        kind.is_some_and(|kind| kind.contains(".wasm.") || kind.contains(".dynamic_modules."))
    };
    match filters.iter().position(is_decision) {
        Some(place) => Ok(place),
        None => bail!("edge.yaml has no filter of Sandgate"),
    }
}
