//! Limits on the requests of one listener: how many are in flight, how many of one caller (a project, or the
//! sidecars of one sandbox), and how long each may take.
//!
//! A request holds one of the listener's permits until its handler returns, so that clients that read responses slowly
//! hold none. It holds one of its caller's permits until its response is sent, so that a caller can't fill the memory
//! with responses that it does not read. A request that only waits for a sandbox exchanges the listener's permit for
//! one of the waiting requests ([`RequestPermits::wait`]), so that the number of waiting requests does not affect
//! others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::ApiError;
use super::guarded_body::GuardedBody;

/// `Retry-After` of a refusal.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The limits of one listener. Clones share them.
#[derive(Clone)]
pub struct RequestLimits {
    in_flight: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    per_caller: usize,
    callers: Callers,
    request_timeout: Duration,
}

/// The number of requests of each caller. A caller without requests has no entry.
type Callers = Arc<Mutex<HashMap<String, usize>>>;

impl RequestLimits {
    /// The default number of requests of one project.
    pub const PER_PROJECT: usize = 64;
    /// The default number of requests that wait for a sandbox.
    pub const WAITING: usize = 1_024;

    /// Allows at most `in_flight` requests at once, each for at most `request_timeout`.
    #[must_use]
    pub fn new(in_flight: usize, request_timeout: Duration) -> Self {
        Self {
            in_flight: Arc::new(Semaphore::new(in_flight)),
            waiting: Arc::new(Semaphore::new(Self::WAITING)),
            per_caller: Self::PER_PROJECT,
            callers: Callers::default(),
            request_timeout,
        }
    }

    /// Sets the number of requests of one caller.
    #[must_use]
    pub fn per_caller(mut self, requests: usize) -> Self {
        self.per_caller = requests;
        self
    }

    /// Sets the number of waiting requests. They don't count as in flight.
    #[must_use]
    pub fn waiting(mut self, requests: usize) -> Self {
        self.waiting = Arc::new(Semaphore::new(requests));
        self
    }

    fn acquire_for(&self, caller: &str) -> Option<CallerPermit> {
        let mut callers = lock(&self.callers);
        let count = callers.entry(caller.to_owned()).or_default();
        if *count >= self.per_caller {
            return None;
        }
        *count += 1;
        Some(CallerPermit { callers: Arc::clone(&self.callers), caller: caller.to_owned() })
    }
}

/// Counts as one request of a caller.
struct CallerPermit {
    callers: Callers,
    caller: String,
}

impl Drop for CallerPermit {
    fn drop(&mut self) {
        let mut callers = lock(&self.callers);
        if let Some(count) = callers.get_mut(&self.caller) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                callers.remove(&self.caller);
            }
        }
    }
}

/// The permits of one request. Handlers extract them.
#[derive(Clone)]
pub struct RequestPermits {
    limits: RequestLimits,
    listener_permit: Arc<Mutex<Option<OwnedSemaphorePermit>>>,
    caller_permit: Arc<Mutex<Option<CallerPermit>>>,
}

impl RequestPermits {
    /// Counts the request against its caller until the response is sent. `kind` is the noun for the caller in the
    /// error, such as `project`.
    ///
    /// # Errors
    /// The caller has the maximum number of requests.
    pub fn count_for(&self, kind: &str, id: &str) -> Result<(), ApiError> {
        let mut held = lock(&self.caller_permit);
        if held.is_some() {
            return Ok(());
        }
        let permit = self.limits.acquire_for(id).ok_or_else(|| {
            let message = format!(
                "the {kind} has {} requests in flight, which is the maximum; wait for their responses, then \
                 try again",
                self.limits.per_caller
            );
            ApiError::new(StatusCode::TOO_MANY_REQUESTS, "TOO_MANY_REQUESTS", message)
                .retry_after(RETRY_AFTER)
        })?;
        *held = Some(permit);
        Ok(())
    }

    /// Counts the request as waiting, and no longer as in flight.
    ///
    /// # Errors
    /// The maximum number of requests is waiting.
    pub fn wait(&self) -> Result<(), ApiError> {
        let permit = Arc::clone(&self.limits.waiting).try_acquire_owned().map_err(|_| {
            let message =
                "too many requests are waiting; try again in a moment, or without waiting";
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "OVERLOADED", message)
                .retry_after(RETRY_AFTER)
        })?;
        *lock(&self.listener_permit) = Some(permit);
        Ok(())
    }
}

impl<S: Sync> FromRequestParts<S> for RequestPermits {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| {
            // The router lacks `with_request_limits`. That is a bug, and no request is served without limits.
            let message = "the request could not be counted";
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", message)
        })
    }
}

/// Applies the limits to all routes of `router`.
pub fn with_request_limits(router: Router, limits: RequestLimits) -> Router {
    router.layer(from_fn_with_state(limits, enforce))
}

async fn enforce(
    State(limits): State<RequestLimits>,
    mut request: Request,
    next: Next,
) -> Response {
    let Ok(permit) = Arc::clone(&limits.in_flight).try_acquire_owned() else {
        let message = "too many requests are in flight; try again in a moment";
        return ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "OVERLOADED", message)
            .retry_after(RETRY_AFTER)
            .into_response();
    };
    let timeout = limits.request_timeout;
    let listener_permit = Arc::new(Mutex::new(Some(permit)));
    let permits = RequestPermits { limits, listener_permit, caller_permit: Arc::default() };
    request.extensions_mut().insert(permits.clone());
    let response = match tokio::time::timeout(timeout, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let message = format!("the server had no response within {timeout:?}");
            ApiError::new(StatusCode::GATEWAY_TIMEOUT, "TIMEOUT", message).into_response()
        }
    };
    *lock(&permits.listener_permit) = None;
    response.map(|body| Body::new(GuardedBody::new(body, permits)))
}

/// A panic of another thread leaves every count complete, so a poisoned lock is still usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
