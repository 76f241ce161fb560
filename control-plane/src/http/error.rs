//! Error responses: a status, and the body `{"error": …, "code": …}`.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use sandgate_policy::gateway_api::ErrorBody;

use crate::store::{Record, StoreError};

#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    retry_after: Option<Duration>,
}

impl ApiError {
    /// An error with a stable code for programs and a message for people.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), retry_after: None }
    }

    /// 400: the request is not valid.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "INVALID_REQUEST", message)
    }

    /// 404. The message is the same if the sandbox does not exist and if it belongs to another project.
    #[must_use]
    pub fn no_sandbox() -> Self {
        let message = "there is no such sandbox in this project";
        Self::new(StatusCode::NOT_FOUND, "SANDBOX_NOT_FOUND", message)
    }

    /// 404: the API has no such path.
    #[must_use]
    pub fn unknown_path(uri: &Uri) -> Self {
        let message = format!("this API has no path `{}`", uri.path());
        Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", message)
    }

    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    #[cfg(test)]
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = ErrorBody { error: self.message, code: self.code.to_owned() };
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(wait) = self.retry_after {
            // Rounded up, because a request that comes too early is refused again.
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::NameTaken(_) => {
                Self::new(StatusCode::CONFLICT, "NAME_TAKEN", error.to_string())
            }
            StoreError::AutoResumeNeedsName => {
                Self::new(StatusCode::CONFLICT, "AUTO_RESUME_NEEDS_NAME", error.to_string())
            }
            StoreError::TooManySandboxes(_) | StoreError::ProjectFull(_) => {
                Self::new(StatusCode::CONFLICT, "PROJECT_FULL", error.to_string())
            }
            StoreError::WouldMakePublic(_) => {
                Self::new(StatusCode::CONFLICT, "PUBLIC_NOT_CONFIRMED", error.to_string())
            }
            StoreError::SpecTooLarge(_) => Self::invalid(error.to_string()),
            StoreError::Busy(_) => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "TOO_MANY_REQUESTS", error.to_string())
                    .retry_after(Duration::from_secs(1))
            }
            StoreError::DiskFull => {
                tracing::error!(%error, "a change was refused");
                let message = "the disk of the store has no space for the change; you can still close ports and delete \
                     sandboxes, and the operator must free space for other changes";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "STORE_FULL", message)
                    .retry_after(Duration::from_secs(60))
            }
            StoreError::NotFound { what: Record::Sandbox, .. } => Self::no_sandbox(),
            StoreError::NotFound { .. } => {
                Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", error.to_string())
            }
            StoreError::AlreadyExists { .. }
            | StoreError::Corrupt(_)
            | StoreError::Newer { .. }
            | StoreError::InUse
            | StoreError::Unavailable(_) => {
                tracing::error!(%error, "the store failed");
                let message =
                    "the store is not available; the log of the control plane has the reason";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "STORE_UNAVAILABLE", message)
                    .retry_after(Duration::from_secs(1))
            }
        }
    }
}
