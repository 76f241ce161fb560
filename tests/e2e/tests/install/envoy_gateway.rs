//! What Envoy Gateway makes of the files.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::values::{bootstrap, local_code, yaml};

const FOLDER: &str = "deploy/install/envoy-gateway";

/// The bootstrap with what Envoy Gateway sends to the proxy.
pub(crate) fn configuration() -> Result<Value> {
    let mut base = sandgate_xds::parse_yaml(include_str!("bases/envoy-gateway.yaml"))?;
    let filter = filter(&yaml(&format!("{FOLDER}/extension-policy.yaml"))?)?;
    let path = "/listener/filter_chains/0/filters/0/typed_config/http_filters";
    let filters = base.pointer_mut(path).and_then(Value::as_array_mut).context("no filters")?;
    filters.insert(0, filter);
    let patches = yaml(&format!("{FOLDER}/patch-policy.yaml"))?;
    for patch in patches["spec"]["jsonPatches"].as_array().context("no patches")? {
        apply(&mut base, patch).with_context(|| format!("{patch}"))?;
    }
    let [listener, route, clusters] =
        ["listener", "route", "clusters"].map(|part| base[part].take());
    Ok(bootstrap(listener, route, &clusters))
}

/// The filter of an `EnvoyExtensionPolicy`: disabled, and enabled by each route.
fn filter(policy: &Value) -> Result<Value> {
    let meta = &policy["metadata"];
    let [namespace, name] = ["namespace", "name"].map(|it| meta[it].as_str().unwrap_or_default());
    let wasm = &policy["spec"]["wasm"][0];
    ensure!(wasm["failOpen"] == false, "the filter must not fail open");
    let id = format!("envoyextensionpolicy/{namespace}/{name}/wasm/0");
    Ok(json!({
        "name": format!("envoy.filters.http.wasm/{id}"),
        "disabled": true,
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": {
                "name": wasm["name"],
                "root_id": wasm["rootID"],
                "vm_config": {
                    "vm_id": id,
                    "runtime": "envoy.wasm.runtime.v8",
                    // From Envoy Gateway's own server there.
                    "code": local_code(),
                },
                "configuration": {
                    "@type": "type.googleapis.com/google.protobuf.StringValue",
                    "value": wasm["config"].to_string(),
                },
            },
        },
    }))
}

/// Applies one of the JSON patches to the resource that it names.
fn apply(base: &mut Value, patch: &Value) -> Result<()> {
    let kind = patch["type"].as_str().and_then(|kind| kind.rsplit('.').next()).unwrap_or_default();
    let operation = &patch["operation"];
    let path = operation["path"].as_str().context("no path")?;
    let resource = match kind {
        "Listener" => &mut base["listener"],
        "RouteConfiguration" => &mut base["route"],
        "Cluster" => {
            ensure!(path.is_empty() && operation["op"] == "add", "this test only adds clusters");
            ensure!(operation["value"]["name"] == patch["name"], "the names differ");
            base["clusters"]
                .as_array_mut()
                .context("no clusters")?
                .push(operation["value"].clone());
            return Ok(());
        }
        other => bail!("this test does not know `{other}`"),
    };
    ensure!(resource["name"] == patch["name"], "there is no resource of this name");
    let pointers = match operation["jsonPath"].as_str() {
        Some(query) => find(resource, query)?,
        None => vec![String::new()],
    };
    ensure!(!pointers.is_empty(), "the JSONPath finds nothing");
    for pointer in pointers {
        change(resource, &format!("{pointer}{path}"), operation)?;
    }
    Ok(())
}

/// JSON Patch (RFC 6902), `add` and `replace`.
fn change(resource: &mut Value, pointer: &str, operation: &Value) -> Result<()> {
    let value = operation["value"].clone();
    let (parent, last) = pointer.rsplit_once('/').context("not a pointer")?;
    let parent = resource.pointer_mut(parent).with_context(|| format!("no `{parent}`"))?;
    match (operation["op"].as_str(), parent) {
        (Some("add"), Value::Array(list)) => list.insert(last.parse()?, value),
        (Some("add"), Value::Object(fields)) => drop(fields.insert(last.to_owned(), value)),
        (Some("replace"), parent) => {
            let index = last.parse::<usize>();
            let old = match index {
                Ok(index) if parent.is_array() => parent.get_mut(index),
                _ => parent.get_mut(last),
            };
            *old.with_context(|| format!("nothing to replace at `{pointer}`"))? = value;
        }
        (op, _) => bail!("this test does not know {op:?}"),
    }
    Ok(())
}

/// The JSON pointers that a JSONPath of the form `$..LIST[?(@.name=='NAME')].FIELD.FIELD` finds.
fn find(resource: &Value, query: &str) -> Result<Vec<String>> {
    let query = query.strip_prefix("$..").context("not a path that this test knows")?;
    let (list, rest) = query.split_once("[?(@.name=='").context("no condition")?;
    let (name, rest) = rest.split_once("')]").context("no end of the condition")?;
    let suffix = rest.replace('.', "/");
    let mut found = Vec::new();
    search(resource, "", list, name, &mut found);
    Ok(found.into_iter().map(|pointer| format!("{pointer}{suffix}")).collect())
}

fn search(value: &Value, at: &str, list: &str, name: &str, found: &mut Vec<String>) {
    match value {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                let pointer = format!("{at}/{index}");
                if at.rsplit('/').next() == Some(list) && item["name"] == name {
                    found.push(pointer.clone());
                }
                search(item, &pointer, list, name, found);
            }
        }
        Value::Object(fields) => {
            for (key, value) in fields {
                let key = key.replace('~', "~0").replace('/', "~1");
                search(value, &format!("{at}/{key}"), list, name, found);
            }
        }
        _ => {}
    }
}
