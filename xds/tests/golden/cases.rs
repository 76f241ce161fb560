//! The desired states whose resources and static files are golden files.

use std::path::Path;

use sandgate_xds::state::{self, EdgeSettings};
use sandgate_xds::{Kind, Snapshot, descriptors, parse_yaml};
use serde_json::{Map, Value};

/// The fields that have no default. `FOLDER` is replaced by the folder of the control plane's files.
pub(crate) const REQUIRED: &str = "  domain: sandbox.example.com
  sandbox_network: 10.64.0.0/16
  control_plane_address: control-plane.internal
  gateway_token_file: FOLDER/gateway-token
";

pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// More fields, and groups. The case is about the node `eu-1`.
    pub(crate) more: &'static str,
}

/// The first is the one from which the others differ.
pub(crate) const CASES: [Case; 7] = [
    Case { name: "smallest", more: "" },
    Case { name: "tls", more: "  certificate: FOLDER/certificate\n" },
    Case { name: "native", more: "  filters: native\n" },
    Case { name: "original-dst", more: "  upstream: original_dst\n" },
    Case { name: "module", more: "  module: { file: FOLDER/module.wasm }\n" },
    Case {
        name: "group",
        more: r#"groups:
  eu:
    nodes: ["eu-*"]
    edge: { domain: eu.example.com, edge_port: 443, certificate: FOLDER/certificate }
"#,
    },
    Case {
        name: "every-field",
        more: r#"  certificate: FOLDER/certificate
  second_domain: sandbox.internal
  api_host: api.example.org
  edge_address: 127.0.0.2
  edge_port: 10443
  edge_tls_port: 10444
  listener_filters:
    - name: envoy.filters.listener.proxy_protocol
      typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol }
  trusted_hops: 1
  admin_port: 10901
  control_plane_ca: FOLDER/ca.crt
  control_plane_name: control-plane.example.org
  control_plane_certificate: /opt/sandgate/certificate
  api_port: 10900
  gateway_port: 10902
  filters: wasm
  wasm: /opt/sandgate/ingress.wasm
  native: /opt/sandgate/native.so
  upstream: dynamic_forward_proxy
  stream_idle_timeout_seconds: 60
  trusted_origins: ["https://app.example.com"]
  ingress_limits: { requests_per_sandbox: 77 }
  edge_heap: 1073741824
  edge_connections: 1000
  log_rate: { max_tokens: 10, tokens_per_fill: 5, fill_interval: 1s }
"#,
    },
];

impl Case {
    /// The settings, with files of the control plane in `folder`, of which only the certificate must exist already.
    pub(crate) fn settings(&self, folder: &Path) -> EdgeSettings {
        std::fs::write(folder.join("gateway-token"), "gateway-token-0123456789\n").unwrap();
        let text = format!("version: 1\nedge:\n{REQUIRED}{}", self.more);
        let text = text.replace("FOLDER", &folder.display().to_string());
        state::parse(&text).unwrap().of("eu-1").clone()
    }

    /// With files whose content does not matter.
    fn settings_with_any_files(&self, folder: &Path) -> EdgeSettings {
        let certificate = folder.join("certificate");
        std::fs::create_dir_all(&certificate).unwrap();
        std::fs::write(certificate.join("tls.crt"), "the certificate").unwrap();
        std::fs::write(certificate.join("tls.key"), "the key").unwrap();
        std::fs::write(folder.join("ca.crt"), "the issuers").unwrap();
        std::fs::write(folder.join("module.wasm"), b"\0asm and more").unwrap();
        self.settings(folder)
    }

    pub(crate) fn resources(&self) -> Value {
        let folder = tempfile::tempdir().unwrap();
        let built = state::build(&self.settings_with_any_files(folder.path())).unwrap();
        assert!(built.warnings.is_empty(), "{:?}", built.warnings);
        let mut resources = to_json(&built.snapshot);
        let listeners = resources["listener"].as_object_mut().unwrap();
        without_repetition(listeners.values_mut().collect());
        resources
    }

    pub(crate) fn static_configuration(&self) -> Value {
        let folder = tempfile::tempdir().unwrap();
        let edge = self.settings_with_any_files(folder.path()).edge().unwrap();
        let mut configuration = parse_yaml(&edge.render().unwrap()).unwrap();
        let listeners = configuration["static_resources"]["listeners"].as_array_mut().unwrap();
        without_repetition(listeners.iter_mut().collect());
        configuration
    }
}

/// Leaves out the filters of all listeners except the first one, and checks that they are the same.
fn without_repetition(listeners: Vec<&mut Value>) {
    let mut listeners = listeners.into_iter().map(|it| &mut it["filter_chains"][0]["filters"]);
    let first = listeners.next().unwrap();
    for filters in listeners {
        assert_eq!(filters, first);
        *filters = "those of the listener `edge`".into();
    }
}

/// The resources by kind and name.
pub(crate) fn to_json(snapshot: &Snapshot) -> Value {
    let mut all = Map::new();
    for kind in Kind::ALL {
        let of_kind = snapshot.of_kind(kind);
        let of_kind: Map<String, Value> = of_kind
            .map(|(name, resource)| {
                (name.to_owned(), descriptors::to_json(&resource.body).unwrap())
            })
            .collect();
        if !of_kind.is_empty() {
            all.insert(kind.to_string(), of_kind.into());
        }
    }
    all.into()
}
