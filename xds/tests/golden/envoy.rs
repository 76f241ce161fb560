//! Envoy's own check of each case.

use std::path::{Path, PathBuf};
use std::process::Command;

use sandgate_envoy_config::{Edge, GatewayToken, TlsCertificate};
use sandgate_xds::bootstrap::{BootstrapSettings, Servers, bootstrap};
use sandgate_xds::state::{self, EdgeSettings};
use serde_json::{Map, Value, json};

use crate::cases::{CASES, Case, to_json};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Settings whose files exist.
fn settings(case: &Case, folder: &Path) -> EdgeSettings {
    let certificate = folder.join("certificate");
    std::fs::create_dir_all(&certificate).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let parameters = rcgen::CertificateParams::new(vec!["sandbox.example.com".to_owned()]).unwrap();
    let own = parameters.self_signed(&key).unwrap();
    std::fs::write(certificate.join("tls.crt"), own.pem()).unwrap();
    std::fs::write(folder.join("ca.crt"), own.pem()).unwrap();
    std::fs::write(certificate.join("tls.key"), key.serialize_pem()).unwrap();
    let built = |name: &str| root().join("target/filters").join(name);
    std::fs::copy(built("sandgate_ingress.wasm"), folder.join("module.wasm")).unwrap();
    let mut settings = case.settings(folder);
    settings.wasm = Some(built("sandgate_ingress.wasm"));
    settings.native = Some(built("libsandgate_native.so"));
    settings.control_plane_certificate =
        settings.control_plane_certificate.is_some().then_some(certificate);
    settings
}

fn validate(folder: &Path, name: &str, configuration: &str) {
    let cache = std::env::var_os("SANDGATE_CACHE_DIR");
    let cache = cache.map_or_else(|| root().join(".cache"), PathBuf::from);
    let file = folder.join(name);
    std::fs::write(&file, configuration).unwrap();
    let output = Command::new(cache.join("envoy/1.40.0/envoy"))
        .args(["--mode", "validate", "--disable-hot-restart", "-c"])
        .arg(&file)
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "Envoy refuses {name}: {log}");
}

#[test]
fn envoy_accepts_the_resources_of_each_case() {
    for case in &CASES {
        let folder = tempfile::tempdir().unwrap();
        let configuration = put_together(&settings(case, folder.path()), folder.path());
        let text = configuration.to_string();
        assert!(!text.contains("\"ads\""), "a resource is still to be fetched");
        validate(folder.path(), &format!("xds-{}.json", case.name), &text);
    }
}

#[test]
fn envoy_accepts_the_static_configuration_of_each_case() {
    for case in &CASES {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        let settings = settings(case, folder.path());
        let edge = Edge {
            gateway_token_sds: file("gateway-token.yaml"),
            tls_sds: file("tls-certificate.yaml"),
            log: root().join("envoy/edge-log.yaml"),
            ..settings.edge().unwrap()
        };
        let token = GatewayToken("gateway-token-0123456789".to_owned()).render().unwrap();
        std::fs::write(&edge.gateway_token_sds, token).unwrap();
        let certificate = TlsCertificate(file("certificate")).render().unwrap();
        std::fs::write(&edge.tls_sds, certificate).unwrap();
        validate(folder.path(), &format!("static-{}.yaml", case.name), &edge.render().unwrap());
    }
}

/// A static configuration that consists of the bootstrap and all resources.
fn put_together(settings: &EdgeSettings, folder: &Path) -> Value {
    let mut resources = to_json(&state::build(settings).unwrap().snapshot);
    let log = folder.join("log.json");
    let bucket = json!({
        "@type": "type.googleapis.com/envoy.service.discovery.v3.Resource",
        "name": "access_log",
        "resource": with_type(&resources["token_bucket"]["access_log"], "envoy.type.v3.TokenBucket"),
    });
    std::fs::write(&log, json!({ "resources": [bucket] }).to_string()).unwrap();
    let mut listeners = resources["listener"].take();
    insert_resources(&mut listeners, &resources, &log);
    let mut clusters = resources["cluster"].take();
    insert_resources(&mut clusters, &resources, &log);
    let connection = BootstrapSettings {
        node: "edge-1".to_owned(),
        token: "token".to_owned(),
        servers: Servers::new("127.0.0.1", 1).unwrap(),
        tls: None,
    };
    let mut bootstrap = bootstrap(settings, &connection).unwrap();
    bootstrap.as_object_mut().unwrap().remove("dynamic_resources");
    bootstrap["static_resources"] = json!({
        "listeners": values(listeners),
        "clusters": values(clusters),
        "secrets": values(resources["secret"].take()),
    });
    bootstrap
}

fn values(by_name: Value) -> Vec<Value> {
    let Value::Object(by_name) = by_name else { return Vec::new() };
    by_name.into_iter().map(|(_, value)| value).collect()
}

fn with_type(message: &Value, name: &str) -> Value {
    let mut fields = message.as_object().unwrap().clone();
    fields.insert("@type".to_owned(), json!(format!("type.googleapis.com/{name}")));
    fields.into()
}

/// Puts resources where their names are. Secrets stay, because static ones are found by their names.
fn insert_resources(json: &mut Value, resources: &Value, log: &Path) {
    match json {
        Value::Array(items) => {
            items.iter_mut().for_each(|item| insert_resources(item, resources, log));
        }
        Value::Object(fields) => {
            insert_resource(fields, resources, log);
            fields.values_mut().for_each(|value| insert_resources(value, resources, log));
        }
        _ => {}
    }
}

fn insert_resource(fields: &mut Map<String, Value>, resources: &Value, log: &Path) {
    let resource = |kind: &str, name: &Value| resources[kind][name.as_str().unwrap()].clone();
    if let Some(rds) = fields.remove("rds") {
        fields.insert("route_config".to_owned(), resource("route", &rds["route_config_name"]));
    }
    if fields.remove("config_discovery").is_some() {
        let extension = resource("extension", &fields["name"]);
        fields.insert("typed_config".to_owned(), extension["typed_config"].clone());
    }
    if fields.remove("sds_config").is_some() {
        assert!(resource("secret", &fields["name"]).is_object());
    }
    if fields.get("config_source").is_some_and(|source| source.get("ads").is_some()) {
        let source = json!({ "path_config_source": { "path": log }, "resource_api_version": "V3" });
        fields.insert("config_source".to_owned(), source);
    }
}
