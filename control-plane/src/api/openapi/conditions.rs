//! The conditions of request bodies that involve several fields. `utoipa` can't derive them from the types.

use serde_json::{Value, json};

/// Adds the conditions to the schemas of the document.
pub(super) fn add(document: &mut Value) {
    // A sandbox without a name is never suspended, so it can't switch `auto_resume` off.
    let name_or_auto_resume = json!([
        { "properties": { "auto_resume": { "enum": [true, null] } } },
        {
            "properties": { "name": { "$ref": "#/components/schemas/SandboxName" } },
            "required": ["name"],
        },
    ]);
    let both_names_of_the_flag = json!({
        "required": ["allow_unauthenticated_access", "allow_unauthenticated_proxy_access"],
    });
    for (schema, condition, value) in [
        ("CreateSandbox", "anyOf", name_or_auto_resume),
        ("CreateSandbox", "not", both_names_of_the_flag.clone()),
        ("PatchSandbox", "not", both_names_of_the_flag),
        ("PatchSandbox", "minProperties", json!(1)),
    ] {
        let schema = document.pointer_mut(&format!("/components/schemas/{schema}"));
        if let Some(Value::Object(schema)) = schema {
            schema.insert(condition.to_owned(), value);
        }
    }
}
