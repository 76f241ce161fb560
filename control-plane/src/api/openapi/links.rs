//! Links from the responses to create to the calls that take the id of the new sandbox. Readers see which calls belong
//! together, and test tools can generate sequences of calls.

use serde_json::{Map, Value, json};

/// The calls that take a sandbox.
const SANDBOX_CALLS: [&str; 7] = [
    "get_sandbox",
    "patch_sandbox",
    "suspend_sandbox",
    "resume_sandbox",
    "list_events",
    "delete_sandbox",
    "get_archived_sandbox",
];
/// The suffix of the operation ids of paths with a namespace.
pub(super) const NAMESPACE_SUFFIX: &str = "_in_namespace";

/// Adds the links to the responses of one call.
pub(super) fn add(call: &mut Map<String, Value>) {
    let id = call.get("operationId").and_then(Value::as_str).unwrap_or_default().to_owned();
    let links = match id.strip_suffix(NAMESPACE_SUFFIX) {
        None if id == "create_sandbox" => links_to_calls("", &[]),
        Some("create_sandbox") => {
            links_to_calls(NAMESPACE_SUFFIX, &[("namespace", "$request.path.namespace")])
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

fn links_to_calls(suffix: &str, more: &[(&str, &str)]) -> Value {
    let parameters: Map<_, _> = more
        .iter()
        .chain(&[("sandbox", "$response.body#/sandbox_id")])
        .map(|(name, expression)| ((*name).to_owned(), json!(expression)))
        .collect();
    let links: Map<_, _> = SANDBOX_CALLS
        .iter()
        .map(|id| {
            let link = json!({ "operationId": format!("{id}{suffix}"), "parameters": parameters });
            ((*id).to_owned(), link)
        })
        .collect();
    links.into()
}
