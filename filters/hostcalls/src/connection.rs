//! What can be done with the connection that is effective: look at what the client sent, end it.
//! Filter state and properties are set as for a request (see [`crate::stream`]).

use proxy_wasm::hostcalls;
use proxy_wasm::types::BufferType;

use crate::{HostError, Result};

/// What the client has sent and nobody has taken yet, up to `limit` bytes. Only inside
/// `on_downstream_data`.
///
/// # Errors
/// When the host refuses.
pub fn received(limit: usize) -> Result<Vec<u8>> {
    let bytes = hostcalls::get_buffer(BufferType::DownstreamData, 0, limit)
        .map_err(HostError::of("get_buffer"))?;
    Ok(bytes.unwrap_or_default())
}

/// Ends a connection, once what was written to the client has been sent.
///
/// # Errors
/// When the host refuses.
pub fn close() -> Result<()> {
    hostcalls::close_downstream().map_err(HostError::of("close_stream"))
}
