//! Bounds on the requests of one listener: how many at once, and how long each.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;

use super::ApiError;

/// Bounds of one listener.
#[derive(Clone)]
pub struct Bounds {
    in_flight: Arc<Semaphore>,
    request_timeout: Duration,
}

impl Bounds {
    /// At most `in_flight` requests at once, each no longer than `request_timeout`.
    #[must_use]
    pub fn new(in_flight: usize, request_timeout: Duration) -> Self {
        Self { in_flight: Arc::new(Semaphore::new(in_flight)), request_timeout }
    }
}

/// Applies bounds to everything that `router` answers.
pub fn bounded(router: Router, bounds: Bounds) -> Router {
    router.layer(from_fn_with_state(bounds, enforce))
}

async fn enforce(State(bounds): State<Bounds>, request: Request, next: Next) -> Response {
    let Ok(_permit) = bounds.in_flight.try_acquire() else {
        let message = "too many requests are in flight; try again in a moment";
        return ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "OVERLOADED", message)
            .retry_after(Duration::from_secs(1))
            .into_response();
    };
    match tokio::time::timeout(bounds.request_timeout, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let message = format!("no answer was ready within {:?}", bounds.request_timeout);
            ApiError::new(StatusCode::GATEWAY_TIMEOUT, "TIMEOUT", message).into_response()
        }
    }
}
