//! A queue by which the streams of a VM wake its root context.
//!
//! Envoy cancels the calls of a stream when the stream ends. A stream therefore adds an entry to the
//! queue, and the root context dispatches the call when Envoy runs it later on the same thread.

use proxy_wasm::hostcalls;

use crate::{HostError, Result};

/// A queue whose entries wake the root context that registered it.
#[derive(Clone, Copy, Debug)]
pub struct Queue(u32);

impl Queue {
    /// Registers the queue `name` for the root context of the calling context. Each VM needs its own
    /// name, because only the last VM that registers a name is woken.
    ///
    /// # Errors
    /// When the host refuses.
    pub fn register(name: &str) -> Result<Self> {
        hostcalls::register_shared_queue(name)
            .map(Self)
            .map_err(HostError::of("register_shared_queue"))
    }

    /// Adds an entry. The host calls `on_queue_ready` of the root context after the current callback.
    ///
    /// # Errors
    /// When the queue does not exist any more.
    pub fn wake(self) -> Result<()> {
        hostcalls::enqueue_shared_queue(self.0, Some(b"1"))
            .map_err(HostError::of("enqueue_shared_queue"))
    }

    /// Removes all entries, so that the queue does not grow.
    pub fn drain(id: u32) {
        while let Ok(Some(_)) = hostcalls::dequeue_shared_queue(id) {}
    }
}

/// Increments a counter that all VMs share. No two calls return the same number.
///
/// # Errors
/// When the host refuses, or 64 attempts in a row lose the race against other VMs.
pub fn unique_number(counter: &str) -> Result<u64> {
    let failed = HostError::of("set_shared_data");
    let mut last = proxy_wasm::types::Status::CasMismatch;
    for _ in 0..64 {
        let (value, cas) =
            hostcalls::get_shared_data(counter).map_err(HostError::of("get_shared_data"))?;
        let current =
            value.and_then(|bytes| <[u8; 8]>::try_from(bytes).ok()).map_or(0, u64::from_le_bytes);
        let next = current.saturating_add(1);
        match hostcalls::set_shared_data(counter, Some(&next.to_le_bytes()), cas) {
            Ok(()) => return Ok(next),
            Err(status) => last = status,
        }
    }
    Err(failed(last))
}
