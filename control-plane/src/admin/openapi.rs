//! The OpenAPI document of the admin API, from the handlers and their types. The committed copy is `docs/openapi/admin.json`; a
//! test fails if the two differ, and `sandgate openapi admin` prints the current document.

use sandgate_policy::gateway_api::ErrorBody;
use serde_json::{Value, json};
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Sandgate admin API",
        version = "1",
        description = "The API with which operators manage organizations, projects, members and keys. It has a listener and \
            tokens of its own, and edges have no route to it. A field or parameter that is not described here is refused.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    servers((url = "http://127.0.0.1:8903", description = "An address of `--admin-listen`. Beyond loopback, https.")),
    paths(
        super::organizations::list,
        super::organizations::create,
        super::projects::list,
        super::projects::create,
        super::members::list,
        super::members::add,
        super::members::remove,
        super::keys::list,
        super::keys::create,
        super::keys::revoke,
    ),
    components(schemas(ErrorBody)),
    security(("admin_token" = [])),
)]
struct Description;

/// The errors that every call can return.
const ERRORS: [(&str, &str); 3] = [
    ("400", "A parameter or field is not as described; the error names it."),
    ("401", "The request has no valid admin token."),
    ("503", "The store is not available, or too many calls are in flight."),
];

/// The document as JSON.
///
/// # Errors
/// The document can't be serialized.
pub fn description() -> serde_json::Result<String> {
    let mut api = Description::openapi();
    let scheme = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("A token of `--admin-token-file`."))
        .build();
    let components = api.components.get_or_insert_default();
    components.add_security_scheme("admin_token", SecurityScheme::Http(scheme));
    let mut api = serde_json::to_value(api)?;
    let paths = api.pointer_mut("/paths").and_then(Value::as_object_mut);
    let calls = paths.into_iter().flat_map(|paths| paths.values_mut());
    let calls = calls.filter_map(Value::as_object_mut).flat_map(|item| item.values_mut());
    for call in calls {
        let Some(Value::Object(responses)) = call.get_mut("responses") else { continue };
        for (status, description) in ERRORS {
            let body = json!({ "schema": { "$ref": "#/components/schemas/ErrorBody" } });
            let response =
                json!({ "description": description, "content": { "application/json": body } });
            responses.entry(status).or_insert(response);
        }
    }
    let mut text = serde_json::to_string_pretty(&api)?;
    text.push('\n');
    Ok(text)
}
