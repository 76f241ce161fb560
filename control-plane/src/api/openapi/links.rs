//! Where the id of a new sandbox is of use: in the calls on it. Readers see what belongs together, and
//! testers make sequences of calls.

use serde_json::{Map, Value, json};

/// Calls that take a sandbox.
const ON_A_SANDBOX: [&str; 6] = [
    "get_sandbox",
    "patch_sandbox",
    "suspend_sandbox",
    "resume_sandbox",
    "delete_sandbox",
    "get_archived_sandbox",
];
/// The end of the operation ids of the paths with a namespace.
pub(super) const IN_NAMESPACE: &str = "_in_namespace";

/// Adds the links of one call.
pub(super) fn add(call: &mut Map<String, Value>) {
    let id = call.get("operationId").and_then(Value::as_str).unwrap_or_default().to_owned();
    let links = match id.strip_suffix(IN_NAMESPACE) {
        None if id == "create_sandbox" => to_sandbox("", &[]),
        Some("create_sandbox") => {
            to_sandbox(IN_NAMESPACE, &[("namespace", "$request.path.namespace")])
        }
        _ => return,
    };
    let Some(Value::Object(responses)) = call.get_mut("responses") else { return };
    for (status, response) in responses {
        if let ("200" | "202" | "504", Value::Object(response)) = (status.as_str(), response) {
            response.insert("links".to_owned(), links.clone());
        }
    }
}

fn to_sandbox(ending: &str, more: &[(&str, &str)]) -> Value {
    let parameters: Map<_, _> = more
        .iter()
        .chain(&[("sandbox", "$response.body#/sandbox_id")])
        .map(|(name, expression)| ((*name).to_owned(), json!(expression)))
        .collect();
    let links: Map<_, _> = ON_A_SANDBOX
        .iter()
        .map(|id| {
            let link = json!({ "operationId": format!("{id}{ending}"), "parameters": parameters });
            ((*id).to_owned(), link)
        })
        .collect();
    links.into()
}
