//! The admin API: operators manage organizations, projects, members and keys, as with the command line, from another machine.
//!
//! The API has a listener and tokens of its own, and no edge has a route to it. Neither an owner's credential nor a gateway token is
//! valid here, and an admin token is valid nowhere else. Whoever has one can make a key for every project.
//!
//! The modules: `organizations`, `projects`, `members` and `keys` are the calls; `listing` has pages, `audit` the log of changes,
//! and [`openapi`] the description.

mod audit;
mod keys;
mod listing;
mod members;
pub mod openapi;
mod organizations;
mod projects;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, put};

use self::audit::Operator;
use crate::changes::Propagation;
use crate::db::Db;
use crate::gateway_tokens::Tokens;
use crate::http::{ApiError, RequestLimits, bearer, with_common_routes, with_request_limits};
use crate::model::{TokenPrefix, parse_label};

/// The state that the handlers share.
#[derive(Clone)]
pub struct Admin {
    pub propagation: Propagation,
    /// The valid tokens.
    pub tokens: Tokens,
    /// The prefix of new personal access tokens.
    pub personal_access_token_prefix: TokenPrefix,
}

impl Admin {
    fn db(&self) -> &Db {
        self.propagation.db()
    }
}

type HandlerResult = Result<Response, ApiError>;

/// The routes of the admin API.
pub fn router(admin: Admin, limits: RequestLimits) -> Router {
    let db = admin.db().clone();
    let calls = Router::new()
        .route("/admin/v1/organizations", get(organizations::list).post(organizations::create))
        .route("/admin/v1/projects", get(projects::list).post(projects::create))
        .route("/admin/v1/members", get(members::list))
        .route(
            "/admin/v1/projects/{project}/members/{user}",
            put(members::add).delete(members::remove),
        )
        .route("/admin/v1/keys", get(keys::list).post(keys::create))
        .route("/admin/v1/keys/{key}", delete(keys::revoke))
        .route_layer(from_fn_with_state(admin.tokens.clone(), authenticate))
        .with_state(admin);
    with_request_limits(with_common_routes(calls, db), limits)
}

async fn authenticate(State(tokens): State<Tokens>, mut request: Request, next: Next) -> Response {
    let operator =
        bearer(request.headers()).filter(|token| tokens.accepts(token)).map(Operator::with_token);
    let Some(operator) = operator else {
        let message = "send `Authorization: Bearer <admin token>`";
        return ApiError::new(StatusCode::UNAUTHORIZED, "UNAUTHENTICATED", message).into_response();
    };
    request.extensions_mut().insert(operator);
    next.run(request).await
}

/// A name that people read.
fn label<'t>(field: &str, text: &'t str) -> Result<&'t str, ApiError> {
    parse_label(text).ok_or_else(|| {
        ApiError::invalid(format!("`{field}` must be 1 to 200 characters on one line"))
    })
}

/// An id could not be made.
#[expect(clippy::needless_pass_by_value, reason = "the form that `map_err` takes")]
fn no_randomness(error: crate::random::NoRandomness) -> ApiError {
    tracing::error!(%error, "no id can be made");
    let message = "the operating system gives no random numbers";
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "NO_RANDOMNESS", message)
}
