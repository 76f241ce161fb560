//! The connection that is the effective context: its received bytes, and its end. [`crate::stream`] sets
//! filter state and properties, which are the same for requests and connections.

use proxy_wasm::hostcalls;
use proxy_wasm::types::BufferType;

use crate::{HostError, Result};

/// Reads the bytes that the client has sent and no filter has consumed, up to `limit` bytes. Only inside
/// `on_downstream_data`.
///
/// # Errors
/// When the host refuses.
pub fn received(limit: usize) -> Result<Vec<u8>> {
    let bytes = hostcalls::get_buffer(BufferType::DownstreamData, 0, limit)
        .map_err(HostError::of("get_buffer"))?;
    Ok(bytes.unwrap_or_default())
}

/// Closes the connection after the bytes that were written to the client have been sent.
///
/// # Errors
/// When the host refuses.
pub fn close() -> Result<()> {
    hostcalls::close_downstream().map_err(HostError::of("close_stream"))
}
