//! The stream that is the effective context: its headers, its upstream, its local reply, and its end.

use proxy_wasm::hostcalls;
use proxy_wasm::types::MapType;

use crate::{HostError, Result, pairs, property};

pub use crate::pairs::{Field, Headers};

/// The headers or trailers of a stream, in one direction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HeaderMap {
    /// The headers from downstream.
    RequestHeaders,
    /// The headers from upstream.
    ResponseHeaders,
    /// The trailers from downstream.
    RequestTrailers,
    /// The trailers from upstream.
    ResponseTrailers,
}

impl HeaderMap {
    fn map_type(self) -> MapType {
        match self {
            Self::RequestHeaders => MapType::HttpRequestHeaders,
            Self::ResponseHeaders => MapType::HttpResponseHeaders,
            Self::RequestTrailers => MapType::HttpRequestTrailers,
            Self::ResponseTrailers => MapType::HttpResponseTrailers,
        }
    }
}

/// Makes another context the effective context.
///
/// # Errors
/// When the context does not exist any more.
pub fn make_effective(context_id: u32) -> Result<()> {
    hostcalls::set_effective_context(context_id).map_err(HostError::of("set_effective_context"))
}

/// Reads all fields.
///
/// # Errors
/// When the host refuses.
pub fn headers(map: HeaderMap) -> Result<Headers> {
    pairs::read(map.map_type())
}

/// Removes all values of a field.
///
/// # Errors
/// When the host refuses.
pub fn remove_header(map: HeaderMap, name: &str) -> Result<()> {
    hostcalls::remove_map_value(map.map_type(), name).map_err(HostError::of("remove_map_value"))
}

/// Replaces all values of a field.
///
/// # Errors
/// When the host refuses.
pub fn set_header(map: HeaderMap, name: &str, value: &[u8]) -> Result<()> {
    hostcalls::set_map_value_bytes(map.map_type(), name, Some(value))
        .map_err(HostError::of("set_map_value"))
}

/// Adds a value to a field.
///
/// # Errors
/// When the host refuses.
pub fn add_header(map: HeaderMap, name: &str, value: &[u8]) -> Result<()> {
    hostcalls::add_map_value_bytes(map.map_type(), name, value)
        .map_err(HostError::of("add_map_value"))
}

/// Sets a filter state object that Envoy defines, for the rest of the filter chain.
///
/// # Errors
/// When Envoy does not define the object, or the value is not valid for it.
pub fn set_filter_state(path: &str, value: &str) -> Result<()> {
    // The message `SetEnvoyFilterStateArguments`: path = 1, value = 2, and span = 3, whose default 0 is the
    // filter chain.
    let mut arguments =
        Vec::with_capacity(path.len().saturating_add(value.len()).saturating_add(8));
    for (tag, text) in [(0x0a, path), (0x12, value)] {
        arguments.push(tag);
        put_varint(&mut arguments, text.len());
        arguments.extend_from_slice(text.as_bytes());
    }
    hostcalls::call_foreign_function("set_envoy_filter_state", Some(&arguments))
        .map(drop)
        .map_err(HostError::of("set_envoy_filter_state"))
}

/// Appends a number as a Protobuf varint.
fn put_varint(out: &mut Vec<u8>, mut value: usize) {
    loop {
        let low = u8::try_from(value & 0x7f).unwrap_or_default();
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// Sets a property. Access logs and later filters read it as the filter state `wasm.<name>`.
///
/// # Errors
/// When the host refuses.
pub fn set_property(name: &str, value: &str) -> Result<()> {
    hostcalls::set_property(vec![name], Some(value.as_bytes()))
        .map_err(HostError::of("set_property"))
}

/// Reads the address and port of the client: those of the connection, or those that a trusted proxy in
/// front of Envoy reports.
///
/// # Errors
/// When the host refuses.
pub fn client_address() -> Result<Vec<u8>> {
    Ok(property(&["source", "address"])?.unwrap_or_default())
}

/// Reads the number of bytes that were sent in both directions so far, with headers. The sum wraps, so only
/// a change has a meaning.
///
/// # Errors
/// When the host refuses.
pub fn byte_count() -> Result<u64> {
    let number = |bytes: Option<Vec<u8>>| {
        let bytes = bytes.and_then(|bytes| bytes.first_chunk().copied());
        bytes.map_or(0, u64::from_le_bytes)
    };
    let request = number(property(&["request", "total_size"])?);
    let response = number(property(&["response", "total_size"])?);
    Ok(request.wrapping_add(response))
}

/// Sends a local reply. The caller must leave the stream paused.
///
/// # Errors
/// When the host refuses.
pub fn reply(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Result<()> {
    hostcalls::send_http_response(status.into(), headers.to_vec(), Some(body))
        .map_err(HostError::of("send_local_response"))
}

/// Continues a paused request. Its headers can't be read or changed after this.
///
/// # Errors
/// When the host refuses.
pub fn continue_request() -> Result<()> {
    hostcalls::resume_http_request().map_err(HostError::of("continue_stream"))
}

/// Resets the stream in both directions.
///
/// # Errors
/// When the host refuses.
pub fn reset() -> Result<()> {
    hostcalls::reset_http_request().map_err(HostError::of("close_stream"))
}
