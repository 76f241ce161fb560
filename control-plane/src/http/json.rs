//! Converts a JSON body into a request type.

mod strict;
mod typed;

use serde::de::DeserializeOwned;
use serde_json::Value;

use self::typed::TypedValue;
use super::ApiError;

/// The largest number that a request may have in a field for whole numbers. Every JSON parser reads numbers up
/// to this one exactly (RFC 8259, section 6).
pub const MAX_WHOLE_NUMBER: u64 = (1 << 53) - 1;
/// The number of characters of a field's path that an error repeats. The name of an unknown field can be as
/// long as a body.
const MAX_PATH: usize = 100;

/// Reads a JSON object as a `T`.
///
/// # Errors
/// The body is not a JSON object, is ambiguous, or has a field that `T` does not accept. The error names the
/// field and does not repeat its value, which may be secret.
pub fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let fields = strict::parse_object(bytes)?;
    let value = TypedValue::from(Value::Object(fields));
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path: String = error.path().to_string().chars().take(MAX_PATH).collect();
        ApiError::invalid(error.inner().describe(&path))
    })
}
