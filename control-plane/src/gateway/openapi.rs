//! The OpenAPI document of the gateway API, from the handlers and the types that both sides use. The committed copy is
//! `docs/openapi/gateway.json`; a test fails if the two differ, and `sandgate openapi gateway` prints the current document.

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
        description = "The API that Sandgate's ingress filters and sidecars call. They work with every platform \
            that implements these calls; the two reports of denials may be missing, and get 404 then. Every response has the header `x-sandgate-control-plane: v1`. A response \
            without this header counts as an error of a proxy.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    servers(
        (url = "http://127.0.0.1:8901", description = "The default of `--gateway-listen`."),
        (
            url = "http://{host}:{port}",
            description = "An address that only edges and sidecars can reach.",
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
        super::changes::poll,
        super::network_policy::follow,
        super::denials::inbound,
        super::denials::outbound,
    ),
    security(("gateway_token" = [])),
    modifiers(&AddMarker, &AddTokens)
)]
struct Description;

/// Adds the marker header to every response.
struct AddMarker;

impl Modify for AddMarker {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        let text =
            Object::builder().schema_type(Type::String).enum_values(Some([MARKER_VALUE])).build();
        let header = HeaderBuilder::new()
            .schema(Some(text))
            .description(Some("Shows that the control plane itself sent the response."))
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

/// Adds the tokens with which gateways and sidecars authenticate.
struct AddTokens;

impl Modify for AddTokens {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("A gateway token. The cluster of Envoy adds it."))
            .build();
        let components = api.components.get_or_insert_default();
        components.add_security_scheme("gateway_token", SecurityScheme::Http(bearer));
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some(
                "Gives access to the network policy of one sandbox, and to the reports about it. Sandgate's own tokens consist of `sgs_` \
                 and the hexadecimal HMAC-SHA-256 of `sandgate sidecar token v1`, a line feed, and the id of the \
                 sandbox, with the SHA-256 of a gateway token as the key. Other platforms can issue other \
                 tokens.",
            ))
            .build();
        components.add_security_scheme("sidecar_token", SecurityScheme::Http(bearer));
    }
}

/// The document as JSON.
///
/// # Errors
/// The document can't be serialized.
pub fn description() -> serde_json::Result<String> {
    let mut text = Description::openapi().to_pretty_json()?;
    text.push('\n');
    Ok(text)
}
