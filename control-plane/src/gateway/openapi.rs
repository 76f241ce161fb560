//! The description of the gateway API, made from the handlers and the types that both sides use.
//! The committed copy is `docs/openapi/gateway.json`; a test fails when the two differ, and
//! `sandgate openapi gateway` prints what belongs there.

use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Object, RefOr, Type};
use utoipa::{Modify, OpenApi};

use sandgate_policy::gateway_api::{MARKER_HEADER, MARKER_VALUE};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Sandgate gateway API",
        version = "1",
        description = "What Sandgate's ingress filters and sidecars ask a control plane. Implement \
            these five calls, and they work with your platform. Every answer carries the header \
            `x-sandgate-control-plane: v1`; an answer without it is taken for a proxy's error page.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    servers(
        (url = "http://127.0.0.1:8901", description = "`--gateway-listen`, unless it says otherwise."),
        (
            url = "http://{host}:{port}",
            description = "Where only edges and sidecars can reach it.",
            variables(
                ("host" = (default = "control-plane.internal")),
                ("port" = (default = "8901")),
            )
        ),
    ),
    paths(
        super::sandboxes::resolve,
        super::sandboxes::introspect,
        super::sandboxes::resume,
        super::changes::changes,
        super::network_policy::follow,
    ),
    security(("gateway_token" = [])),
    modifiers(&Marked, &Token)
)]
struct Description;

/// The marker header belongs to every answer.
struct Marked;

impl Modify for Marked {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        let text =
            Object::builder().schema_type(Type::String).enum_values(Some([MARKER_VALUE])).build();
        let header = HeaderBuilder::new()
            .schema(Some(text))
            .description(Some("Says that the control plane itself answered."))
            .build();
        let operations =
            api.paths.paths.values_mut().flat_map(|item| [&mut item.get, &mut item.post]);
        for operation in operations.flatten() {
            for response in operation.responses.responses.values_mut() {
                if let RefOr::T(response) = response {
                    response.headers.insert(MARKER_HEADER.to_owned(), RefOr::T(header.clone()));
                }
            }
        }
    }
}

/// How gateways authenticate.
struct Token;

impl Modify for Token {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("One of the gateway tokens; added by Envoy's cluster."))
            .build();
        let components = api.components.get_or_insert_default();
        components.add_security_scheme("gateway_token", SecurityScheme::Http(bearer));
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some(
                "Good for the network policy of one sandbox. Sandgate's own is `sgs_` and the \
                 HMAC-SHA-256 in hexadecimal of `sandgate sidecar token v1`, a line feed and the \
                 sandbox's id, with the SHA-256 of a gateway token as its key; another platform may \
                 issue what it likes.",
            ))
            .build();
        components.add_security_scheme("sidecar_token", SecurityScheme::Http(bearer));
    }
}

/// The description as JSON, as it is committed.
///
/// # Errors
/// It can't be written as JSON.
pub fn description() -> serde_json::Result<String> {
    let mut text = Description::openapi().to_pretty_json()?;
    text.push('\n');
    Ok(text)
}
