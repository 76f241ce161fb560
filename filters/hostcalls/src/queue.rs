//! A queue from a VM's streams to its root context.
//!
//! A call that a stream dispatches dies with the stream. So a stream puts a note into a queue, and
//! the root context, in the next turn of the same thread, makes the call.

use proxy_wasm::hostcalls;

use crate::{HostError, Result};

/// A queue whose notes wake the root context that registered it.
#[derive(Clone, Copy, Debug)]
pub struct Queue(u32);

impl Queue {
    /// Registers the queue `name` for the root of the calling context. Whoever registers a name
    /// last is woken, so each VM needs a name of its own.
    ///
    /// # Errors
    /// When the host refuses.
    pub fn register(name: &str) -> Result<Self> {
        hostcalls::register_shared_queue(name)
            .map(Self)
            .map_err(HostError::of("register_shared_queue"))
    }

    /// Has the root's `on_queue_ready` called in the next turn.
    ///
    /// # Errors
    /// When the queue is gone.
    pub fn wake(self) -> Result<()> {
        hostcalls::enqueue_shared_queue(self.0, Some(b"1"))
            .map_err(HostError::of("enqueue_shared_queue"))
    }

    /// Takes all notes out, so that the queue does not grow.
    pub fn drain(id: u32) {
        while let Ok(Some(_)) = hostcalls::dequeue_shared_queue(id) {}
    }
}

/// A number that no other VM of this proxy gets, from a shared counter.
///
/// # Errors
/// When the host refuses, or other VMs keep winning the race for it.
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
