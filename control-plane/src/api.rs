//! The public API: owners call it directly or through Tensorlake's clients.
//!
//! Each sandbox path has two forms, `/sandboxes…` and `/v1/namespaces/{namespace}/sandboxes…`. Clients choose the form
//! by the host that they are configured with. Responses repeat the namespace, and it has no other meaning: the project of
//! the credential determines which sandboxes a caller can see.
//!
//! The modules, in the order in which a request meets them:
//!
//! 1. `caller` authenticates, `target` and `query` read the path and the query, and `requests` reads the body.
//!    `egress` refuses network policies that nothing would enforce.
//! 2. `sandboxes`, `lifecycle`, `list`, `events` and `platform` are the calls; `unsupported` answers all others.
//! 3. `responses` and `errors` are the responses. `urls` has the URLs in them.
//! 4. [`openapi`] describes all of this.

mod caller;
mod egress;
mod errors;
mod events;
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

pub use self::egress::EgressEnforcement;
pub use self::urls::{InvalidProxyUrl, PublicUrls};
use crate::http::{ApiError, RequestLimits, with_common_routes, with_request_limits};
use crate::model::TokenPrefix;
use crate::sandboxes::SandboxService;

/// The state that the handlers share.
#[derive(Clone)]
pub struct Api {
    pub sandboxes: SandboxService,
    /// The URLs of sandboxes in responses.
    pub urls: PublicUrls,
    /// Whether sidecars enforce network policies.
    pub egress: EgressEnforcement,
    /// What happens to a patch that contains `exposed_ports` and would make private ports public.
    pub private_to_public: PrivateToPublic,
    /// Distinguishes personal access tokens from API keys.
    pub personal_access_token_prefix: TokenPrefix,
}

/// What happens to a patch that contains `exposed_ports` and would make private ports public.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum PrivateToPublic {
    /// The patch is applied, and the response has a warning.
    Allow,
    /// The patch is refused. The owner confirms by sending the flag alone.
    Confirm,
}

type HandlerResult = Result<Response, ApiError>;

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
        .route("/sandboxes/{sandbox}/events", get(events::list))
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
