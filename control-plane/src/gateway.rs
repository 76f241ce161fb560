//! The API that the ingress filters call. Its wire types are in [`sandgate_policy::gateway_api`], and
//! its description in `docs/openapi/gateway.json`.
//!
//! It has a listener of its own, which nothing but gateways should reach, and every call needs one
//! of the tokens of a file; a sidecar's needs one that is good for its sandbox only. Every answer, refusals too, carries a marker header: without it, what
//! arrives at a filter is Envoy's own error page.

mod changes;
mod network_policy;
pub mod openapi;
mod reports;
mod sandboxes;
mod tokens;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use sandgate_policy::gateway_api::{MARKER_HEADER, MARKER_VALUE};
use tokio::sync::watch;

pub use self::reports::Platform;
pub use self::tokens::{InvalidTokens, Tokens, follow_file, sidecar_tokens};
use crate::http::{
    ApiError, ConnectionLimit, RequestLimits, with_common_routes, with_request_limits,
};
use crate::sandboxes::SandboxService;

/// What the handlers work on.
#[derive(Clone)]
pub struct Gateway {
    /// The sandboxes.
    pub sandboxes: SandboxService,
    /// ConnectionLimit for the connections of sidecars, apart from those of the listener.
    pub sidecars: ConnectionLimit,
    /// Who may call.
    pub tokens: Tokens,
    /// Who may report what happened to sandboxes, if they live on the operator's platform.
    pub platform: Option<Arc<Platform>>,
    /// Closes when the server stops: held answers are given then.
    pub stopping: watch::Receiver<bool>,
}

/// The routes of the gateway API.
pub fn router(gateway: Gateway, limits: RequestLimits) -> Router {
    // What gateways ask must not wait for what owners ask, nor for what sidecars ask.
    let with_own_readers =
        |gateway: Gateway| Gateway { sandboxes: gateway.sandboxes.with_own_readers(), ..gateway };
    let sidecars = with_own_readers(gateway.clone());
    let gateway = with_own_readers(gateway);
    let db = gateway.sandboxes.db().clone();
    let reports = match gateway.platform.clone() {
        Some(platform) => Router::new()
            .route("/runtime/v1/reports", post(reports::report))
            .with_state((gateway.clone(), platform)),
        None => Router::new(),
    };
    let policies = Router::new()
        .route("/gateway/v1/sandboxes/{sandbox}/network-policy", get(network_policy::follow))
        .with_state(sidecars);
    let calls = Router::new()
        .route("/gateway/v1/sandboxes/{sandbox}", get(sandboxes::resolve))
        .route("/gateway/v1/sandboxes/{sandbox}/resume", post(sandboxes::resume))
        .route("/gateway/v1/credentials/introspect", post(sandboxes::introspect))
        .route("/gateway/v1/changes", get(changes::changes))
        .route_layer(from_fn_with_state(gateway.tokens.clone(), authenticate))
        .with_state(gateway)
        .merge(policies)
        .merge(reports);
    with_request_limits(with_common_routes(calls, db), limits).layer(map_response(mark))
}

async fn authenticate(State(tokens): State<Tokens>, request: Request, next: Next) -> Response {
    if bearer(request.headers()).is_some_and(|token| tokens.accepts(token)) {
        return next.run(request).await;
    }
    let message = "the gateway API needs `Authorization: Bearer <gateway token>`";
    ApiError::new(StatusCode::UNAUTHORIZED, "UNAUTHENTICATED", message).into_response()
}

/// The bearer token of a request; none if there are several.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut shown = headers.get_all(header::AUTHORIZATION).iter();
    match (shown.next(), shown.next()) {
        (Some(value), None) => value.as_bytes().strip_prefix(b"Bearer "),
        _ => None,
    }
}

async fn mark(mut response: Response) -> Response {
    response
        .headers_mut()
        .insert(HeaderName::from_static(MARKER_HEADER), HeaderValue::from_static(MARKER_VALUE));
    response
}
