//! The routes that both APIs have: health checks, and the responses to unknown paths and methods.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::{Method, StatusCode, Uri};
use axum::routing::get;

use super::ApiError;
use crate::db::Db;

/// The maximum time for the store to answer a readiness check.
const READY_TIMEOUT: Duration = Duration::from_secs(2);

/// How long an answer of the store counts. Each edge checks the readiness of each server all the time.
const READY_FOR: Duration = Duration::from_millis(500);

/// Adds the common routes to the routes of an API.
pub fn with_common_routes(router: Router, db: Db) -> Router {
    let answered = Arc::new(Mutex::new(None));
    router
        .route("/healthz", get(|| std::future::ready("ok\n")))
        .route("/readyz", get(move || ready(db, answered)))
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

/// Whether the store answers. `answered` is when it last did.
async fn ready(db: Db, answered: Arc<Mutex<Option<Instant>>>) -> Result<&'static str, ApiError> {
    let last = || answered.lock().unwrap_or_else(PoisonError::into_inner);
    let is_fresh = last().is_some_and(|at| at.elapsed() < READY_FOR);
    if is_fresh {
        return Ok("ready\n");
    }
    let asked = Instant::now();
    let revision = db.read(|store| store.revision());
    match tokio::time::timeout(READY_TIMEOUT, revision).await {
        Ok(Ok(_)) => {
            *last() = Some(asked);
            Ok("ready\n")
        }
        Ok(Err(error)) => Err(error.into()),
        Err(_) => {
            let message = "the store does not answer";
            Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "STORE_UNAVAILABLE", message))
        }
    }
}
