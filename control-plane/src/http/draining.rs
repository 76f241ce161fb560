//! The time between a stop signal and the stop: health checks fail, so that load balancers and edges send new requests to other
//! servers, and everything is still served.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, Version, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};

use super::ApiError;

/// Whether the server is about to stop. Clones share it.
#[derive(Clone, Default)]
pub struct Draining(Arc<AtomicBool>);

impl Draining {
    /// Makes health checks fail from now on.
    pub fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Tells the clients of `router` when the server is about to stop.
    pub fn announce(&self, router: Router) -> Router {
        router.layer(from_fn_with_state(self.clone(), announce))
    }
}

async fn announce(State(draining): State<Draining>, request: Request, next: Next) -> Response {
    if !draining.0.load(Ordering::Relaxed) {
        return next.run(request).await;
    }
    let version = request.version();
    let mut response = if request.uri().path() == "/readyz" {
        let message = "this server stops";
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "STOPPING", message).into_response()
    } else {
        next.run(request).await
    };
    // HTTP/2 has no such header, and its connections end with the stop.
    if version == Version::HTTP_11 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
