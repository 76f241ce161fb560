//! Request bodies: JSON, bounded in size and time.

use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::ApiError;
use super::json::parse_object;

/// Bytes of a body. The largest one that makes sense has 64 KiB of kept fields, each character of them
/// as an escape.
const MAX_BODY: usize = 1_024 * 1_024;
/// How long a client may take to send it.
const READ_WITHIN: Duration = Duration::from_secs(10);

/// Reads a JSON object that can be understood in one way only.
///
/// # Errors
/// The body is too long, too slow, no JSON object, or ambiguous.
pub async fn read_object(body: Body) -> Result<Map<String, Value>, ApiError> {
    parse_object(&read_bytes(body).await?)
}

/// For calls that take no body: there is none, or an empty object.
///
/// # Errors
/// There is something in it, which would otherwise be ignored.
pub async fn read_nothing(body: Body) -> Result<(), ApiError> {
    let bytes = read_bytes(body).await?;
    if bytes.is_empty() || parse_object(&bytes)?.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid("this call takes no fields in its body; send it without one"))
}

/// Reads JSON of a given form.
///
/// # Errors
/// The body is too long, too slow, or not of that form.
pub async fn read_typed<T: DeserializeOwned>(body: Body) -> Result<T, ApiError> {
    let bytes = read_bytes(body).await?;
    // serde_json's messages name the place and, for strings, quote no more than was expected;
    // a secret in the body is never repeated because unknown values are described by their kind.
    serde_json::from_slice(&bytes).map_err(|error| {
        ApiError::invalid(format!(
            "the body is not the JSON that is expected here (line {}, column {})",
            error.line(),
            error.column()
        ))
    })
}

/// Reads a body as it was sent.
///
/// # Errors
/// The body is too long or too slow.
pub async fn read_bytes(body: Body) -> Result<Bytes, ApiError> {
    tokio::time::timeout(READ_WITHIN, to_bytes(body, MAX_BODY))
        .await
        .map_err(|_| {
            let message = format!("the body was not sent within {READ_WITHIN:?}");
            ApiError::new(StatusCode::REQUEST_TIMEOUT, "REQUEST_TIMEOUT", message)
        })?
        .map_err(|_| {
            let message = format!("the body is longer than {MAX_BODY} bytes, or broke off");
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "BODY_TOO_LARGE", message)
        })
}
