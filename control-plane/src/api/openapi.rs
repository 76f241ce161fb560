//! The OpenAPI document of the public API, from the handlers and the types that they read and send. The committed
//! copy is `docs/openapi/public.json`; a test fails if the two differ, and `sandgate openapi public` prints the
//! current document. `scripts/schemathesis` tests that the server behaves as the document describes.

mod conditions;
mod links;

use serde_json::{Map, Value, json};
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};

use sandgate_policy::gateway_api::{ErrorBody, SandboxState};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Sandgate public API",
        version = "1",
        description = "The API for owners of sandboxes, who call it directly or through Tensorlake's clients. \
            Each sandbox path has a second form below `/v1/namespaces/{namespace}`. Responses repeat the \
            namespace, and it has no other meaning. The project of the credential determines which sandboxes a caller can \
            see. A field or parameter that is not described here is refused. Other calls of Tensorlake's API get 501 \
            `NOT_SUPPORTED`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    servers(
        (url = "http://localhost:8900", description = "The default of `--api-listen`."),
        (
            url = "{scheme}://{host}",
            description = "Through an edge: one of its domains, or one of its `api_hosts`.",
            variables(
                ("scheme" = (default = "https", enum_values("https", "http"))),
                ("host" = (default = "sandbox.example.com", description = "With the port, if it is not the default port.")),
            )
        ),
    ),
    paths(
        super::sandboxes::create,
        super::list::list,
        super::sandboxes::get,
        super::sandboxes::patch,
        super::sandboxes::delete,
        super::sandboxes::archived,
        super::lifecycle::suspend,
        super::lifecycle::resume,
        super::events::list,
        super::platform::introspect,
        super::platform::project,
    ),
    components(schemas(ErrorBody, SandboxState)),
    security(("credential" = [])),
)]
struct Description;

/// The errors that every call can return.
const ERRORS: [(&str, &str); 7] = [
    (
        "400",
        "A header, parameter or field is not as described; the error names it. With a personal access token, the headers that name the project are missing.",
    ),
    ("401", "The request has no valid credential."),
    ("403", "The credential gives no access to the project that the headers name."),
    ("408", "The body did not arrive in time."),
    ("413", "The body is too long."),
    (
        "429",
        "`TOO_MANY_REQUESTS`: the project has too many requests in flight. Waiting requests count too, and so do requests whose responses are not read yet.",
    ),
    (
        "503",
        "The store or the platform that runs sandboxes is not available; the error says which.",
    ),
];
const NOT_FOUND: (&str, &str) = ("404", "The project has no such sandbox.");

/// The document as JSON.
///
/// # Errors
/// The document can't be serialized.
pub fn description() -> serde_json::Result<String> {
    let mut api = Description::openapi();
    let scheme = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some(
            "An API key; or a personal access token, with the headers \
             `X-Forwarded-Organization-Id` and `X-Forwarded-Project-Id`.",
        ))
        .build();
    let components = api.components.get_or_insert_default();
    components.add_security_scheme("credential", SecurityScheme::Http(scheme));
    let mut api = serde_json::to_value(api)?;
    conditions::add(&mut api);
    if let Some(Value::Object(paths)) = api.pointer_mut("/paths") {
        for (path, calls) in paths.iter_mut() {
            each_call(calls, |call| complete(call, path.contains('{')));
        }
        let nested = paths.iter().filter(|(path, _)| path.contains("sandboxes"));
        let nested: Vec<_> = nested.map(|(path, calls)| in_namespace(path, calls)).collect();
        paths.extend(nested);
        paths.values_mut().for_each(|calls| each_call(calls, links::add));
    }
    let mut text = serde_json::to_string_pretty(&api)?;
    text.push('\n');
    Ok(text)
}

fn each_call(calls: &mut Value, mut change: impl FnMut(&mut Map<String, Value>)) {
    if let Value::Object(calls) = calls {
        calls.values_mut().filter_map(Value::as_object_mut).for_each(&mut change);
    }
}

/// Adds the errors that every call can return, and makes bodies required.
fn complete(call: &mut Map<String, Value>, has_path_parameter: bool) {
    if let Some(Value::Object(body)) = call.get_mut("requestBody") {
        body.insert("required".to_owned(), json!(true));
    }
    let responses = call.entry("responses").or_insert_with(|| json!({}));
    let Value::Object(responses) = responses else { return };
    let not_found = has_path_parameter.then_some(NOT_FOUND);
    for (status, description) in ERRORS.into_iter().chain(not_found) {
        let body = json!({ "schema": { "$ref": "#/components/schemas/ErrorBody" } });
        let mut response =
            json!({ "description": description, "content": { "application/json": body } });
        if let ("401", Value::Object(response)) = (status, &mut response) {
            let header = json!({ "schema": { "type": "string" }, "required": true });
            response.insert("headers".to_owned(), json!({ "WWW-Authenticate": header }));
        }
        if let ("429", Value::Object(response)) = (status, &mut response) {
            let seconds = json!({ "schema": { "type": "integer" }, "required": true });
            response.insert("headers".to_owned(), json!({ "Retry-After": seconds }));
        }
        responses.entry(status).or_insert(response);
    }
}

/// The same calls with a namespace in the path.
fn in_namespace(path: &str, calls: &Value) -> (String, Value) {
    let mut calls = calls.clone();
    each_call(&mut calls, |call| {
        if let Some(Value::String(id)) = call.get_mut("operationId") {
            id.push_str(links::NAMESPACE_SUFFIX);
        }
        let parameters = call.entry("parameters").or_insert_with(|| json!([]));
        if let Value::Array(parameters) = parameters {
            parameters.push(json!({
                "name": "namespace", "in": "path", "required": true,
                "description": "Responses repeat it.", "schema": { "type": "string" },
            }));
        }
    });
    (format!("/v1/namespaces/{{namespace}}{path}"), calls)
}
