//! What both HTTP APIs share: errors, bodies, bounds, and the listener.

mod body;
mod bounds;
mod error;
mod held;
mod json;
mod listener;
mod places;

pub use body::{read_bytes, read_nothing, read_object, read_typed};
pub use bounds::{Bounds, Slot, bounded};
pub use error::ApiError;
pub use listener::{ListenError, Listener};
pub use places::{Connection, Full, Places};

use axum::Router;
use axum::http::{Method, StatusCode, Uri};
use axum::routing::get;

/// Adds health checks, and answers in our own words for paths and methods that there are not.
pub fn with_fallbacks(router: Router) -> Router {
    router
        .route("/healthz", get(|| std::future::ready("ok\n")))
        .method_not_allowed_fallback(|method: Method, uri: Uri| {
            let message = format!("`{method}` is not possible on `{}`", uri.path());
            std::future::ready(ApiError::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "METHOD_NOT_ALLOWED",
                message,
            ))
        })
        .fallback(|uri: Uri| std::future::ready(ApiError::nothing_at(&uri)))
}
