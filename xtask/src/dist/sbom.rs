//! The software bill of materials of what a release contains, in CycloneDX 1.5, from cargo's own view of the dependencies.
//!
//! It has neither a time nor a serial number, so that the same Cargo.lock has the same bill.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::process::{command, output};

/// The packages whose code is in a release.
const SHIPPED: [&str; 6] = [
    "sandgate",
    "sandgate-envoy-config",
    "sandgate-sidecar",
    "sandgate-ingress",
    "sandgate-egress",
    "sandgate-native",
];

/// The bill, as text.
///
/// # Errors
/// cargo does not answer.
pub(crate) fn make() -> Result<String> {
    let mut cargo = command("cargo");
    let metadata = output(cargo.args(["metadata", "--locked", "--format-version", "1"]))?;
    let bill = bill(&serde_json::from_str(&metadata)?).context("cargo's metadata")?;
    Ok(serde_json::to_string_pretty(&bill)? + "\n")
}

fn bill(metadata: &Value) -> Result<Value> {
    let packages: BTreeMap<&str, &Value> = list(metadata, "packages")?
        .map(|package| Ok((text(package, "id")?, package)))
        .collect::<Result<_>>()?;
    let resolve = metadata.get("resolve").context("no `resolve`")?;
    let nodes: BTreeMap<&str, &Value> =
        list(resolve, "nodes")?.map(|node| Ok((text(node, "id")?, node))).collect::<Result<_>>()?;
    let mut shipped = Vec::new();
    for name in SHIPPED {
        let found = list(metadata, "workspace_members")?.filter_map(Value::as_str).find(|id| {
            packages.get(id).is_some_and(|package| package.get("name") == Some(&name.into()))
        });
        shipped.push(found.with_context(|| format!("no package `{name}`"))?);
    }

    let mut used = BTreeMap::new();
    let mut waiting = shipped.clone();
    while let Some(id) = waiting.pop() {
        if used.contains_key(id) {
            continue;
        }
        let needs = linked(nodes.get(id).with_context(|| format!("no node `{id}`"))?)?;
        waiting.extend(&needs);
        used.insert(id, needs);
    }

    let reference = |id: &str| -> Result<String> {
        let package = packages.get(id).with_context(|| format!("no package `{id}`"))?;
        Ok(format!("pkg:cargo/{}@{}", text(package, "name")?, text(package, "version")?))
    };
    let mut components = BTreeMap::new();
    let mut dependencies = BTreeMap::new();
    for (id, needs) in used {
        let package = packages.get(id).with_context(|| format!("no package `{id}`"))?;
        let reference_of_this = reference(id)?;
        let component = json!({
            "type": "library",
            "bom-ref": reference_of_this,
            "name": text(package, "name")?,
            "version": text(package, "version")?,
            "purl": reference_of_this,
            // Old packages separate alternatives by a slash, which is no expression of SPDX.
            "licenses": [{ "expression": text(package, "license")?.replace('/', " OR ") }],
        });
        components.insert(reference_of_this.clone(), component);
        let needs: Vec<String> = needs.into_iter().map(reference).collect::<Result<_>>()?;
        dependencies.insert(
            reference_of_this.clone(),
            json!({ "ref": reference_of_this, "dependsOn": needs }),
        );
    }
    let version = env!("CARGO_PKG_VERSION");
    let release = format!("sandgate@{version}");
    let shipped: Vec<String> = shipped.into_iter().map(reference).collect::<Result<_>>()?;
    dependencies.insert(release.clone(), json!({ "ref": release, "dependsOn": shipped }));
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": { "type": "application", "bom-ref": release, "name": "sandgate", "version": version },
        },
        "components": components.into_values().collect::<Vec<_>>(),
        "dependencies": dependencies.into_values().collect::<Vec<_>>(),
    }))
}

/// The packages that are linked into a package: not those of its tests and of its build script.
fn linked(node: &Value) -> Result<BTreeSet<&str>> {
    let mut found = BTreeSet::new();
    for dependency in list(node, "deps")? {
        if list(dependency, "dep_kinds")?.any(|kind| kind.get("kind").is_some_and(Value::is_null)) {
            found.insert(text(dependency, "pkg")?);
        }
    }
    Ok(found)
}

fn list<'a>(value: &'a Value, field: &str) -> Result<impl Iterator<Item = &'a Value>> {
    let list = value.get(field).and_then(Value::as_array);
    Ok(list.with_context(|| format!("no list `{field}`"))?.iter())
}

fn text<'a>(value: &'a Value, field: &str) -> Result<&'a str> {
    value
        .get(field)
        .and_then(Value::as_str)
        .with_context(|| format!("no text `{field}` in {value}"))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    /// The tests of the deployment kit compare it with the schema of CycloneDX.
    #[test]
    fn the_bill_has_what_is_linked_and_not_what_only_tests_use() {
        let bill: Value = serde_json::from_str(&super::make().unwrap()).unwrap();
        let names: Vec<_> = bill["components"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["name"].as_str().unwrap())
            .collect();
        for linked in ["sandgate-native", "sandgate-policy", "rusqlite", "tokio", "proxy-wasm"] {
            assert!(names.contains(&linked), "{linked}: {names:?}");
        }
        for other in ["wasmtime", "testcontainers", "xtask", "sandgate-bench", "proptest"] {
            assert!(!names.contains(&other), "{other}");
        }
        let known: Vec<_> =
            bill["dependencies"].as_array().unwrap().iter().map(|one| &one["ref"]).collect();
        for dependency in bill["dependencies"].as_array().unwrap() {
            for needed in dependency["dependsOn"].as_array().unwrap() {
                assert!(known.contains(&needed), "{needed}");
            }
        }
    }

    #[test]
    fn the_bill_is_the_same_each_time() {
        assert_eq!(super::make().unwrap(), super::make().unwrap());
    }
}
