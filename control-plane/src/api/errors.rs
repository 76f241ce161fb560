//! The error responses that several calls share.

use axum::http::StatusCode;

use crate::http::ApiError;
use crate::runtime::Failure;

/// The response if the runtime could not start or resume a sandbox. `action` is the participle in the message:
/// `started` or `resumed`.
pub(super) fn not_started(action: &str, failure: &Failure) -> ApiError {
    let message = format!("the sandbox could not be {action}: {}", failure.reason);
    if failure.refused {
        return ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "SANDBOX_REFUSED", message);
    }
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "SANDBOX_NOT_STARTED", message)
}
