//! Who makes a change, for the audit log of the store. Each change is also an event of the server's log, with the target
//! `sandgate::audit`.
//!
//! The fields are ids that the server made, or were parsed, so a caller can't write lines of its own.

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use sha2::{Digest as _, Sha256};

use crate::http::ApiError;
use crate::random::hex;
use crate::store::Author;

/// The bytes of a token's hash that the log shows, to tell two tokens apart.
const FINGERPRINT: usize = 4;

/// Who makes a call: `admin token`, and the token's fingerprint.
#[derive(Clone, Debug)]
pub(super) struct Operator {
    principal: String,
}

impl Operator {
    pub(super) fn with_token(token: &[u8]) -> Self {
        let hash = Sha256::digest(token);
        let fingerprint = hex(hash.get(..FINGERPRINT).unwrap_or_default());
        Self { principal: format!("admin token {fingerprint}") }
    }

    /// The author of a change that is made now.
    pub(super) fn author(&self) -> Author<'_> {
        Author::now(&self.principal)
    }

    /// Logs a change that was made. `subject` is an id, and `of` the id of what it belongs to. Call it on the thread of the
    /// write: the handler ends with its caller's connection, and the write does not.
    pub(super) fn log(&self, action: &'static str, subject: &str, of: &str) {
        tracing::info!(
            target: "sandgate::audit",
            principal = self.principal,
            action,
            ?subject,
            ?of,
            "an operator's change"
        );
    }
}

impl<S: Sync> FromRequestParts<S> for Operator {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| {
            // The route lacks `authenticate`. That is a bug, and no call is served without an operator.
            ApiError::new(StatusCode::UNAUTHORIZED, "UNAUTHENTICATED", "no token was checked")
        })
    }
}
