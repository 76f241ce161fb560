//! What Istio makes of the files.

use anyhow::{Context as _, Result, bail, ensure};
use sandgate_stack::files::write_private;
use serde_json::{Value, json};

use crate::values::{Values, bootstrap, file, local_code, yaml};

const FOLDER: &str = "deploy/install/istio";

/// The bootstrap with what Istio sends to the gateway. The filter comes by ECDS, from a file in the place of the agent.
pub(crate) fn configuration(values: &Values) -> Result<Value> {
    let mut base = sandgate_xds::parse_yaml(include_str!("bases/istio.yaml"))?;
    let extension = yaml(&format!("{FOLDER}/traffic-extension.yaml"))?;
    let filter = add_extension(&mut base["listener"], &extension, values)?;
    let mut ecds = json!({ "resources": [filter] });
    values.put_into(&mut ecds);
    write_private(&values.folder.path().join("ecds.json"), &ecds.to_string())?;
    for patch in yaml(&format!("{FOLDER}/envoy-filter.yaml"))?["spec"]["configPatches"]
        .as_array()
        .context("no patches")?
    {
        apply(&mut base, patch).with_context(|| format!("{patch}"))?;
    }
    let [listener, route, clusters] =
        ["listener", "route", "clusters"].map(|part| base[part].take());
    Ok(bootstrap(listener, route, &clusters))
}

/// The settings that the two resources with the filter have in common.
fn plugin(resource: &Value) -> Value {
    let spec = &resource["spec"];
    let wasm = spec.get("wasm").unwrap_or(spec);
    let mut common = json!({ "selector": spec["selector"], "phase": spec["phase"] });
    for field in ["url", "pluginName", "failStrategy", "type", "pluginConfig"] {
        common[field] = wasm[field].clone();
    }
    common
}

#[test]
fn both_resources_with_the_filter_say_the_same() {
    let read = |name: &str| plugin(&yaml(&format!("{FOLDER}/{name}")).unwrap());
    assert_eq!(read("traffic-extension.yaml"), read("wasm-plugin.yaml"));
}

#[test]
fn all_files_select_the_same_gateway() {
    let selector = json!({ "istio": "ingressgateway" });
    let read = |name: &str| yaml(&format!("{FOLDER}/{name}")).unwrap();
    assert_eq!(read("gateway.yaml")["spec"]["selector"], selector);
    assert_eq!(read("envoy-filter.yaml")["spec"]["workloadSelector"]["labels"], selector);
    assert_eq!(read("traffic-extension.yaml")["spec"]["selector"]["matchLabels"], selector);
    assert!(file("docs/install.md").unwrap().contains(FOLDER));
}

/// Adds the filter of a `TrafficExtension` of the phase AUTHN to the listener; returns the resource of ECDS.
fn add_extension(listener: &mut Value, extension: &Value, values: &Values) -> Result<Value> {
    let spec = plugin(extension);
    ensure!(spec["phase"] == "AUTHN", "this test puts the filter first, as with AUTHN");
    let meta = &extension["metadata"];
    let [namespace, name] = ["namespace", "name"].map(|it| meta[it].as_str().unwrap_or_default());
    let policy = spec["failStrategy"].as_str().context("no failStrategy")?;
    let resource = format!("extensions.istio.io/trafficextension/{namespace}.{name}");
    let filter = json!({
        "name": resource,
        "config_discovery": {
            "config_source": {
                // Istio sends this resource by ADS. The test has no ADS server, so Envoy reads it from a file.
                "path_config_source": { "path": values.folder.path().join("ecds.json") },
                "initial_fetch_timeout": "0s",
                "resource_api_version": "V3",
            },
            "type_urls": [
                "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
                "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
            ],
        },
    });
    http_filters(listener)?.insert(0, filter);
    Ok(json!({
        "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
        "name": resource,
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": {
                "name": format!("{namespace}.{name}"),
                "root_id": spec["pluginName"],
                "failure_policy": policy,
                "vm_config": {
                    "runtime": "envoy.wasm.runtime.v8",
                    // The agent has fetched the module.
                    "code": local_code(),
                    "environment_variables": { "key_values": { "ISTIO_META_WASM_PLUGIN_RESOURCE_VERSION": "1" } },
                },
                "configuration": {
                    "@type": "type.googleapis.com/google.protobuf.StringValue",
                    "value": spec["pluginConfig"].to_string(),
                },
            },
        },
    }))
}

fn http_filters(listener: &mut Value) -> Result<&mut Vec<Value>> {
    let path = "/filter_chains/0/filters/0/typed_config/http_filters";
    listener.pointer_mut(path).and_then(Value::as_array_mut).context("no http_filters")
}

/// Applies a patch of an `EnvoyFilter` to a gateway.
fn apply(base: &mut Value, patch: &Value) -> Result<()> {
    let (to, matched, change) = (&patch["applyTo"], &patch["match"], &patch["patch"]);
    ensure!(matched["context"] == "GATEWAY", "the context is not GATEWAY");
    let filter = &matched["listener"]["filterChain"]["filter"];
    let value = change["value"].clone();
    match (to.as_str().unwrap_or_default(), change["operation"].as_str().unwrap_or_default()) {
        ("NETWORK_FILTER", "MERGE") => {
            let network =
                base.pointer_mut("/listener/filter_chains/0/filters/0").context("no filter")?;
            ensure!(network["name"] == filter["name"], "no such network filter");
            merge(network, &value)
        }
        ("HTTP_FILTER", "INSERT_FIRST") => {
            http_filters(&mut base["listener"])?.insert(0, value);
            Ok(())
        }
        ("HTTP_FILTER", "INSERT_BEFORE") => {
            let filters = http_filters(&mut base["listener"])?;
            let at = filters.iter().position(|it| it["name"] == filter["subFilter"]["name"]);
            filters.insert(at.context("no such filter")?, value);
            Ok(())
        }
        ("VIRTUAL_HOST", "ADD") => {
            ensure!(matched["routeConfiguration"]["portNumber"] == 443, "another port");
            base["route"]["virtual_hosts"].as_array_mut().context("no hosts")?.push(value);
            Ok(())
        }
        ("CLUSTER", "ADD") => {
            base["clusters"].as_array_mut().context("no clusters")?.push(value);
            Ok(())
        }
        (to, operation) => bail!("this test does not know {operation} of {to}"),
    }
}

/// Merges as protobuf does: messages field by field, lists by appending. A default value in the patch changes nothing, which is
/// an error here.
fn merge(into: &mut Value, from: &Value) -> Result<()> {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                match into.get_mut(name) {
                    Some(old) => merge(old, value).with_context(|| format!("`{name}`"))?,
                    None => {
                        into.insert(name.clone(), value.clone());
                    }
                }
            }
        }
        (Value::Array(into), Value::Array(from)) => into.extend(from.iter().cloned()),
        (_, Value::Bool(false)) => bail!("`false` changes nothing in a merge"),
        (_, Value::Number(number)) if number.as_u64() == Some(0) => bail!("0 changes nothing"),
        (into, from) => *into = from.clone(),
    }
    Ok(())
}
