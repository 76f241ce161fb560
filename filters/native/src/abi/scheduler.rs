//! What wakes the worker of a stream.

use super::*;

/// Wakes the worker of a stream, from any thread, while the stream exists.
pub(crate) struct StreamScheduler(EnvoyPtr);

// SAFETY: Envoy's scheduler holds a weak reference to the stream and posts to the worker's dispatcher, which may be done
// from any thread. The dispatcher outlives the streams of the worker, and `ingress` drops the scheduler with its stream.
unsafe impl Send for StreamScheduler {}

impl StreamScheduler {
    /// # Safety
    /// The stream exists.
    pub(super) unsafe fn new(stream: EnvoyPtr) -> Result<Self> {
        // SAFETY: by the contract of this function.
        let scheduler = unsafe { envoy_dynamic_module_callback_http_filter_scheduler_new(stream) };
        if scheduler.is_null() { Err(Refused) } else { Ok(Self(scheduler)) }
    }

    /// Calls [`crate::ingress::Stream::on_scheduled`] on the worker, if the stream still exists then.
    pub(crate) fn wake(&self) {
        // SAFETY: the scheduler exists until it is dropped.
        unsafe { envoy_dynamic_module_callback_http_filter_scheduler_commit(self.0, 0) }
    }
}

impl Drop for StreamScheduler {
    fn drop(&mut self) {
        // SAFETY: nothing uses the scheduler after this.
        unsafe { envoy_dynamic_module_callback_http_filter_scheduler_delete(self.0) }
    }
}
