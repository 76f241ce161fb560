//! The values of a test in the places of those that a user changes.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use sandgate_e2e::Stack;
use sandgate_stack::artifacts;
use sandgate_stack::files::write_private;
use sandgate_xds::parse_yaml;
use serde_json::{Value, json};

/// The networks in the files.
const NETWORKS: [&str; 2] = ["127.64.0.0", "10.64.0.0"];
/// The port of the gateway API in the files.
const GATEWAY_PORT: u64 = 8901;

/// What a user puts in the places marked `CHANGE`.
pub(crate) struct Values {
    /// Without the prefix length.
    network: String,
    prefix_len: u8,
    gateway_port: u16,
    token: PathBuf,
    pub(crate) folder: tempfile::TempDir,
}

impl Values {
    /// The values for a control plane and its sandboxes.
    pub(crate) fn of(stack: &Stack) -> Result<Self> {
        let gateway_port = stack.control_plane.gateway().address().port();
        Self::new(
            gateway_port,
            stack.network.base().to_string(),
            sandgate_stack::Network::PREFIX_LEN,
        )
    }

    pub(crate) fn new(gateway_port: u16, network: String, prefix_len: u8) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let token = folder.path().join("gateway-token.yaml");
        let text = sandgate_envoy_config::GatewayToken(sandgate_e2e::TOKEN.to_owned()).render()?;
        write_private(&token, &text)?;
        Ok(Self { network, prefix_len, gateway_port, token, folder })
    }

    /// A bootstrap with these values, whatever the files have in their places.
    pub(crate) fn put_into(&self, value: &mut Value) {
        match value {
            Value::String(text) => self.put_into_text(text),
            Value::Array(list) => list.iter_mut().for_each(|value| self.put_into(value)),
            Value::Object(fields) => {
                match fields.get("port_value").and_then(Value::as_u64) {
                    Some(GATEWAY_PORT) => {
                        fields["address"] = json!("127.0.0.1");
                        fields["port_value"] = json!(self.gateway_port);
                    }
                    // Its own listeners. The others lead nowhere.
                    Some(_) if fields["address"] == "127.0.0.1" => fields["port_value"] = json!(0),
                    _ => {}
                }
                let prefix = fields.get("address_prefix").and_then(Value::as_str);
                if prefix.is_some_and(|prefix| NETWORKS.contains(&prefix)) {
                    fields["address_prefix"] = json!(self.network);
                    fields["prefix_len"] = json!(self.prefix_len);
                }
                fields.values_mut().for_each(|value| self.put_into(value));
            }
            _ => {}
        }
    }

    fn put_into_text(&self, text: &mut String) {
        if text.ends_with("/gateway-token.yaml") {
            *text = self.token.display().to_string();
        } else if text == "/etc/sandgate" {
            *text = self.folder.path().display().to_string();
        } else if text == "target/filters/sandgate_ingress.wasm" {
            *text = artifacts::wasm_filter().display().to_string();
        }
        for network in NETWORKS {
            let network = format!("{network}/16");
            *text = text.replace(&network, &format!("{}/{}", self.network, self.prefix_len));
        }
    }
}

/// A file of the tree.
pub(crate) fn file(path: &str) -> Result<String> {
    let path = artifacts::root().join(path);
    std::fs::read_to_string(&path).with_context(|| format!("`{}`", path.display()))
}

/// A file of the tree that has one YAML document.
pub(crate) fn yaml(path: &str) -> Result<Value> {
    parse_yaml(&file(path)?).with_context(|| path.to_owned())
}

/// The source of the module as an Envoy with this file has it.
pub(crate) fn local_code() -> Value {
    json!({ "local": { "filename": artifacts::wasm_filter() } })
}

/// A bootstrap of a listener, its route, and clusters.
pub(crate) fn bootstrap(mut listener: Value, route: Value, clusters: &Value) -> Value {
    listener["filter_chains"][0]["filters"][0]["typed_config"]["route_config"] = route;
    json!({
        "node": { "id": "test", "cluster": "test" },
        "admin": { "address": { "socket_address": { "address": "127.0.0.1", "port_value": 0 } } },
        "static_resources": { "listeners": [listener], "clusters": clusters },
    })
}
