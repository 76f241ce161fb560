//! HTTP calls to other clusters, and their responses.

use std::time::Duration;

use proxy_wasm::hostcalls;
use proxy_wasm::types::{BufferType, MapType};

use crate::stream::Headers;
use crate::{HostError, Result, pairs};

/// A call to an HTTP service behind an Envoy cluster.
pub struct Call<'a> {
    /// Name of the cluster.
    pub cluster: &'a str,
    /// `:method`.
    pub method: &'a str,
    /// `:authority`.
    pub authority: &'a str,
    /// `:path`.
    pub path: &'a str,
    /// The body, in JSON.
    pub body: Option<&'a [u8]>,
    /// After this time the host ends the call with a 504 of its own.
    pub timeout: Duration,
}

/// Starts a call and returns its token. The host passes the token to `on_http_call_response` of the
/// context that is effective now.
///
/// # Errors
/// When the cluster does not exist, or its circuit breaker is open.
pub fn dispatch(call: &Call<'_>) -> Result<u32> {
    let mut headers = vec![
        (":method", call.method),
        (":authority", call.authority),
        (":path", call.path),
        ("accept", "application/json"),
    ];
    if call.body.is_some() {
        headers.push(("content-type", "application/json"));
    }
    hostcalls::dispatch_http_call(call.cluster, headers, call.body, vec![], call.timeout)
        .map_err(HostError::of("dispatch_http_call"))
}

/// The response to a call.
pub struct Response {
    /// The headers with `:status`: names in lower case, values as bytes.
    pub headers: Headers,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Response {
    /// Reads the response. Only inside `on_http_call_response`, with the sizes that it receives.
    ///
    /// # Errors
    /// When the host refuses, or the body has more than `limit` bytes.
    pub fn read(num_headers: usize, body_size: usize, limit: usize) -> Result<Self> {
        // A call that was reset has no header map at all.
        let headers = match num_headers {
            0 => Headers::default(),
            _ => pairs::read(MapType::HttpCallResponseHeaders)?,
        };
        if body_size > limit {
            return Err(HostError::of("get_buffer")(proxy_wasm::types::Status::BadArgument));
        }
        let body = match body_size {
            0 => None,
            size => hostcalls::get_buffer(BufferType::HttpCallResponseBody, 0, size)
                .map_err(HostError::of("get_buffer"))?,
        };
        Ok(Self { headers, body: body.unwrap_or_default() })
    }
}
