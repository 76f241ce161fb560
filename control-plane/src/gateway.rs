//! The API that the ingress filters and the sidecars call. Its wire types are in [`sandgate_policy::gateway_api`], and
//! its description is in `docs/openapi/gateway.json`.
//!
//! The API has its own listener, which only gateways and sidecars should reach. The calls of a gateway need a gateway
//! token. The calls of a sidecar need a gateway token or a token for its sandbox. The reports of the platform are
//! signed instead. Every response carries a marker header, so that a filter can tell it from a local reply of Envoy.
//!
//! The modules: `sandboxes` has the lookups and resumes of the ingress filter, `changes` its change feed,
//! `network_policy` the polls of the sidecars, `denials` what filters and sidecars report for owners, `reports` the reports of the operator's platform, and [`openapi`] the
//! description. The tokens are in [`crate::gateway_tokens`].

mod changes;
mod denials;
mod network_policy;
pub mod openapi;
mod reports;
mod sandboxes;
mod xds;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use sandgate_policy::gateway_api::{MARKER_HEADER, MARKER_VALUE};
use sandgate_xds::nodes::Nodes;
use tokio::sync::watch;

pub use self::reports::Platform;
pub use crate::gateway_tokens::{
    InvalidTokens, Tokens, UnusableTokens, follow_file, sidecar_tokens,
};
use crate::http::{
    ApiError, ConnectionLimit, RequestLimits, bearer, with_common_routes, with_request_limits,
};
use crate::metrics::Metrics;
use crate::sandboxes::SandboxService;

/// The state that the handlers share.
#[derive(Clone)]
pub struct Gateway {
    pub sandboxes: SandboxService,
    /// The limit on connections of sidecars, which don't count against the limit of the listener.
    pub sidecar_connections: ConnectionLimit,
    /// The valid tokens.
    pub tokens: Tokens,
    /// Verifies reports, if the sandboxes run on the operator's platform.
    pub platform: Option<Arc<Platform>>,
    pub metrics: Metrics,
    /// What the xDS server knows of its nodes, if there is one.
    pub xds_nodes: Option<Nodes>,
    /// Becomes true when the server stops. Polls are answered then.
    pub stopping: watch::Receiver<bool>,
}

/// The routes of the gateway API.
pub fn router(gateway: Gateway, limits: RequestLimits) -> Router {
    // Queries of gateways must not wait for queries of owners or sidecars.
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
        .route("/gateway/v1/sandboxes/{sandbox}/denials", post(denials::outbound))
        .with_state(sidecars);
    let calls = Router::new()
        .route("/gateway/v1/sandboxes/{sandbox}", get(sandboxes::resolve))
        .route("/gateway/v1/sandboxes/{sandbox}/resume", post(sandboxes::resume))
        .route("/gateway/v1/credentials/introspect", post(sandboxes::introspect))
        .route("/gateway/v1/changes", get(changes::poll))
        .route("/gateway/v1/denials", post(denials::inbound))
        .route("/gateway/v1/xds/nodes", get(xds::nodes))
        .route("/metrics", get(xds::metrics))
        .route_layer(from_fn_with_state(gateway.tokens.clone(), authenticate))
        .with_state(gateway)
        .merge(policies)
        .merge(reports);
    with_request_limits(with_common_routes(calls, db), limits).layer(map_response(add_marker))
}

async fn authenticate(State(tokens): State<Tokens>, request: Request, next: Next) -> Response {
    if bearer(request.headers()).is_some_and(|token| tokens.accepts(token)) {
        return next.run(request).await;
    }
    let message = "send `Authorization: Bearer <gateway token>`";
    ApiError::new(StatusCode::UNAUTHORIZED, "UNAUTHENTICATED", message).into_response()
}

async fn add_marker(mut response: Response) -> Response {
    response
        .headers_mut()
        .insert(HeaderName::from_static(MARKER_HEADER), HeaderValue::from_static(MARKER_VALUE));
    response
}
