//! The routes that both APIs have: health checks, and the responses to unknown paths and methods.

use std::time::Duration;

use axum::Router;
use axum::http::{Method, StatusCode, Uri};
use axum::routing::get;

use super::ApiError;
use crate::db::Db;

/// The maximum time for the store to answer a readiness check.
const READY_TIMEOUT: Duration = Duration::from_secs(2);

/// Adds the common routes to the routes of an API.
pub fn with_common_routes(router: Router, db: Db) -> Router {
    router
        .route("/healthz", get(|| std::future::ready("ok\n")))
        .route("/readyz", get(move || ready(db)))
        .method_not_allowed_fallback(|method: Method, uri: Uri| {
            let message = format!("`{}` does not support the method `{method}`", uri.path());
            std::future::ready(ApiError::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "METHOD_NOT_ALLOWED",
                message,
            ))
        })
        .fallback(|uri: Uri| std::future::ready(ApiError::unknown_path(&uri)))
}

/// Whether the store answers.
async fn ready(db: Db) -> Result<&'static str, ApiError> {
    let revision = db.read(|store| store.revision());
    match tokio::time::timeout(READY_TIMEOUT, revision).await {
        Ok(Ok(_)) => Ok("ready\n"),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => {
            let message = "the store does not answer";
            Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "STORE_UNAVAILABLE", message))
        }
    }
}
