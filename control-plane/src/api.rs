//! The API that owners call, directly or through Tensorlake's clients.
//!
//! Each sandbox path exists in two forms, `/sandboxes…` and `/v1/namespaces/{ns}/sandboxes…`: the
//! clients use one or the other depending on the host they were given. The namespace is repeated in
//! answers and means nothing else: the project of the credential decides what is seen.

mod caller;
mod errors;
mod lifecycle;
mod list;
pub mod openapi;
mod platform;
mod query;
mod requests;
mod responses;
mod sandboxes;
mod target;
mod unsupported;
mod urls;

use axum::Router;
use axum::response::Response;
use axum::routing::{get, post};
use clap::ValueEnum;

pub use self::requests::Egress;
pub use self::urls::{InvalidProxyUrl, PublicUrls};
use crate::http::{ApiError, RequestLimits, with_common_routes, with_request_limits};
use crate::model::TokenPrefix;
use crate::sandboxes::SandboxService;

/// What the handlers work on.
#[derive(Clone)]
pub struct Api {
    /// The sandboxes.
    pub sandboxes: SandboxService,
    /// How sandboxes are reached from outside.
    pub urls: PublicUrls,
    /// Whether network policies hold here.
    pub egress: Egress,
    /// Whether a patch must confirm that private ports become public.
    pub public_ports: PublicPorts,
    /// Distinguishes personal access tokens from API keys.
    pub personal_access_token_prefix: TokenPrefix,
}

/// Whether a patch of `exposed_ports` can also make private ports public.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum PublicPorts {
    /// The patch is applied, and the answer has a warning.
    Allow,
    /// The patch is refused. A patch without `exposed_ports` confirms the change.
    Confirm,
}

type Answer = Result<Response, ApiError>;

/// The routes of the public API.
pub fn router(api: Api, limits: RequestLimits) -> Router {
    let db = api.sandboxes.db().clone();
    let sandboxes = Router::new()
        .route("/sandboxes", post(sandboxes::create).get(list::list))
        .route(
            "/sandboxes/{sandbox}",
            get(sandboxes::get).patch(sandboxes::patch).delete(sandboxes::delete),
        )
        .route("/sandboxes/{sandbox}/suspend", post(lifecycle::suspend))
        .route("/sandboxes/{sandbox}/resume", post(lifecycle::resume))
        .route("/archived-sandboxes/{sandbox}", get(sandboxes::archived));
    let router = Router::new()
        .merge(sandboxes.clone())
        .nest("/v1/namespaces/{namespace}", sandboxes)
        .route("/platform/v1/keys/introspect", post(platform::introspect))
        .route(
            "/platform/v1/organizations/{organization}/projects/{project}",
            get(platform::project),
        )
        .with_state(api);
    with_request_limits(with_common_routes(router, db).fallback(unsupported::answer), limits)
}
