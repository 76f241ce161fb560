//! Bounds on the requests of one listener: how many at once, how many of one caller (a project, or the
//! sidecars of one sandbox), how long each.
//!
//! A request holds one of the listener's slots until its handler is done, so that slow readers of
//! answers hold none; and one of its caller's until its answer is sent, so that a caller can't fill
//! the memory with answers that it does not read. A request that only waits gives the listener's slot
//! back and takes a waiter's: however many wait, others are answered.

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
use super::held::Held;

/// When to come back after a refusal.
const COME_BACK: Duration = Duration::from_secs(1);

/// Bounds of one listener.
#[derive(Clone)]
pub struct Bounds {
    in_flight: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    each: usize,
    callers: Callers,
    request_timeout: Duration,
}

/// Requests of each caller. One without any has no entry.
type Callers = Arc<Mutex<HashMap<String, usize>>>;

impl Bounds {
    /// Requests of one project at once, unless the operator says otherwise.
    pub const EACH_PROJECT: usize = 64;
    /// Requests that wait for a sandbox at once, unless the operator says otherwise.
    pub const WAITING: usize = 1_024;

    /// At most `in_flight` requests at once, each no longer than `request_timeout`.
    #[must_use]
    pub fn new(in_flight: usize, request_timeout: Duration) -> Self {
        Self {
            in_flight: Arc::new(Semaphore::new(in_flight)),
            waiting: Arc::new(Semaphore::new(Self::WAITING)),
            each: Self::EACH_PROJECT,
            callers: Callers::default(),
            request_timeout,
        }
    }

    /// At most so many requests of one caller at once.
    #[must_use]
    pub fn each(mut self, requests: usize) -> Self {
        self.each = requests;
        self
    }

    /// At most so many requests that wait, besides those in flight.
    #[must_use]
    pub fn waiting(mut self, requests: usize) -> Self {
        self.waiting = Arc::new(Semaphore::new(requests));
        self
    }

    fn share(&self, caller: &str) -> Option<Share> {
        let mut callers = lock(&self.callers);
        let count = callers.entry(caller.to_owned()).or_default();
        if *count >= self.each {
            return None;
        }
        *count += 1;
        Some(Share { callers: Arc::clone(&self.callers), caller: caller.to_owned() })
    }
}

/// One request of a caller, as long as it lives.
struct Share {
    callers: Callers,
    caller: String,
}

impl Drop for Share {
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

/// What a request holds.
#[derive(Clone)]
pub struct Slot {
    bounds: Bounds,
    listeners: Arc<Mutex<Option<OwnedSemaphorePermit>>>,
    callers: Arc<Mutex<Option<Share>>>,
}

impl Slot {
    /// Counts the request as one of its caller's, until its answer is sent. The caller is a `kind` (one
    /// word) and an id.
    ///
    /// # Errors
    /// The caller has as many already as it may.
    pub fn charge(&self, kind: &str, id: &str) -> Result<(), ApiError> {
        let mut held = lock(&self.callers);
        if held.is_some() {
            return Ok(());
        }
        let share = self.bounds.share(id).ok_or_else(|| {
            let message = format!(
                "the {kind} has {} requests in flight already; wait for their answers, then try \
                 again",
                self.bounds.each
            );
            ApiError::new(StatusCode::TOO_MANY_REQUESTS, "TOO_MANY_REQUESTS", message)
                .retry_after(COME_BACK)
        })?;
        *held = Some(share);
        Ok(())
    }

    /// From here on the request only waits: it gives the listener's slot back.
    ///
    /// # Errors
    /// Too many wait already.
    pub fn wait(&self) -> Result<(), ApiError> {
        let waiting = Arc::clone(&self.bounds.waiting).try_acquire_owned().map_err(|_| {
            let message =
                "too many requests wait already; try again in a moment, or without waiting";
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "OVERLOADED", message)
                .retry_after(COME_BACK)
        })?;
        *lock(&self.listeners) = Some(waiting);
        Ok(())
    }
}

impl<S: Sync> FromRequestParts<S> for Slot {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| {
            // A router that was not passed through `bounded`: a mistake of ours, and no request of it
            // is served without bounds.
            let message = "the request could not be counted";
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", message)
        })
    }
}

/// Applies bounds to everything that `router` answers.
pub fn bounded(router: Router, bounds: Bounds) -> Router {
    router.layer(from_fn_with_state(bounds, enforce))
}

async fn enforce(State(bounds): State<Bounds>, mut request: Request, next: Next) -> Response {
    let Ok(permit) = Arc::clone(&bounds.in_flight).try_acquire_owned() else {
        let message = "too many requests are in flight; try again in a moment";
        return ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "OVERLOADED", message)
            .retry_after(COME_BACK)
            .into_response();
    };
    let timeout = bounds.request_timeout;
    let listeners = Arc::new(Mutex::new(Some(permit)));
    let slot = Slot { bounds, listeners, callers: Arc::default() };
    request.extensions_mut().insert(slot.clone());
    let response = match tokio::time::timeout(timeout, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let message = format!("no answer was ready within {timeout:?}");
            ApiError::new(StatusCode::GATEWAY_TIMEOUT, "TIMEOUT", message).into_response()
        }
    };
    *lock(&slot.listeners) = None;
    response.map(|body| Body::new(Held::new(body, slot)))
}

/// A panic of another thread leaves no half-done count behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
