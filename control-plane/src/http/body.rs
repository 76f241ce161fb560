//! Reads request bodies, with limits on their size and time.

use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::ApiError;
use super::json::parse_json;

/// The maximum number of bytes of a body. The largest useful body has 64 KiB of kept fields, with each character
/// written as an escape.
const MAX_BODY: usize = 1_024 * 1_024;
/// The maximum time for the client to send a body.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads a body that must be a JSON object, as a `T`.
///
/// # Errors
/// The body is too long, too slow, or not a `T`; see [`parse_json`].
pub async fn read_json<T: DeserializeOwned>(body: Body) -> Result<T, ApiError> {
    parse_json(&read_bytes(body).await?)
}

/// Reads the body of a call without fields: it must be empty, or an empty object.
///
/// # Errors
/// The body has fields, which the call would otherwise ignore.
pub async fn read_empty(body: Body) -> Result<(), ApiError> {
    let bytes = read_bytes(body).await?;
    if bytes.is_empty() || parse_json::<Map<String, Value>>(&bytes)?.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid("this call has no fields in its body; send it without a body"))
}

/// Reads the bytes of a body.
///
/// # Errors
/// The body is too long or too slow.
pub async fn read_bytes(body: Body) -> Result<Bytes, ApiError> {
    tokio::time::timeout(READ_TIMEOUT, to_bytes(body, MAX_BODY))
        .await
        .map_err(|_| {
            let message = format!("the body did not arrive within {READ_TIMEOUT:?}");
            ApiError::new(StatusCode::REQUEST_TIMEOUT, "REQUEST_TIMEOUT", message)
        })?
        .map_err(|_| {
            let message = format!("the body is longer than {MAX_BODY} bytes, or incomplete");
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "BODY_TOO_LARGE", message)
        })
}
