//! The configuration of a filter: its counters, its calls, and what wakes the main thread.

use std::time::Duration;

use super::*;

/// A counter. If it could not be defined, it counts nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counter(pub(super) Option<usize>);

/// The configuration while Envoy creates it.
pub(crate) struct ConfigHandle(EnvoyPtr);

impl ConfigHandle {
    /// # Safety
    /// The pointer is the one that Envoy passed to a hook of the configuration, and the handle does not outlive the hook.
    pub(super) unsafe fn new(config: EnvoyPtr) -> Self {
        Self(config)
    }

    /// Defines a counter. Counters with the same name are the same counter, in all configurations.
    pub(crate) fn define_counter(&self, name: &str) -> Counter {
        let mut id = 0;
        // SAFETY: the configuration exists, Envoy copies the name, and `id` outlives the call.
        let result = unsafe {
            envoy_dynamic_module_callback_http_filter_config_define_counter(
                self.0,
                Buffer::of(name.as_bytes()),
                std::ptr::null(),
                0,
                &raw mut id,
            )
        };
        Counter((result == 0).then_some(id))
    }

    /// Sets a gauge. Gauges with the same name are the same gauge, in all configurations.
    pub(crate) fn set_gauge(&self, name: &str, value: u64) {
        let (mut id, labels) = (0, std::ptr::null());
        // SAFETY: the configuration exists, Envoy copies the name, `id` outlives the calls, and there are no labels.
        unsafe {
            let name = Buffer::of(name.as_bytes());
            let defined = envoy_dynamic_module_callback_http_filter_config_define_gauge(
                self.0,
                name,
                labels,
                0,
                &raw mut id,
            );
            if defined == 0 {
                envoy_dynamic_module_callback_http_filter_config_set_gauge(
                    self.0, id, labels, 0, value,
                );
            }
        }
    }

    pub(crate) fn scheduler(&self) -> ConfigScheduler {
        // SAFETY: the configuration exists.
        ConfigScheduler(unsafe {
            envoy_dynamic_module_callback_http_filter_config_scheduler_new(self.0)
        })
    }
}

/// The main thread, in a hook of the configuration.
pub(crate) struct MainThread(EnvoyPtr);

impl MainThread {
    /// # Safety
    /// As [`ConfigHandle::new`].
    pub(super) unsafe fn new(config: EnvoyPtr) -> Self {
        Self(config)
    }

    pub(crate) fn count(&self, counter: Counter) {
        let Counter(Some(id)) = counter else { return };
        // SAFETY: the configuration exists, and there are no labels.
        unsafe {
            envoy_dynamic_module_callback_http_filter_config_increment_counter(
                self.0,
                id,
                std::ptr::null(),
                0,
                1,
            );
        }
    }

    /// Starts a call to a cluster. Envoy passes its response, with the number that this returns, to
    /// [`crate::ingress::Config::on_callout_done`].
    ///
    /// # Errors
    /// When the cluster does not exist, or its circuit breaker is open.
    pub(crate) fn call(
        &self,
        cluster: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        timeout: Duration,
    ) -> Result<u64> {
        let headers: Vec<_> =
            headers.iter().map(|(name, value)| HeaderField::of(name, value.as_bytes())).collect();
        let mut callout = 0;
        // SAFETY: the configuration exists, Envoy copies the buffers, and `callout` outlives the call.
        let result = unsafe {
            envoy_dynamic_module_callback_http_filter_config_http_callout(
                self.0,
                &raw mut callout,
                Buffer::of(cluster.as_bytes()),
                headers.as_ptr(),
                headers.len(),
                Buffer::of(body),
                u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
            )
        };
        if result == 0 { Ok(callout) } else { Err(Refused) }
    }
}

/// The response to a call.
pub(crate) struct CalloutResponse {
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
}

impl CalloutResponse {
    /// Copies a response. `None` if a name is not text, or the body is larger than `limit`.
    ///
    /// # Safety
    /// The arrays are those that Envoy passed to the hook that is running.
    pub(super) unsafe fn read(
        headers: (*const HeaderField, usize),
        chunks: (*const Buffer, usize),
        limit: usize,
    ) -> Option<Self> {
        // SAFETY: by the contract of this function; the same holds for what the elements point to.
        let (headers, chunks) = unsafe { (slice(headers), slice(chunks)) };
        if chunks.iter().map(|chunk| chunk.length).sum::<usize>() > limit {
            return None;
        }
        let mut body = Vec::new();
        for chunk in chunks {
            // SAFETY: the bytes of an element are valid during this function, by its contract.
            body.extend_from_slice(unsafe { chunk.bytes() });
        }
        let copy = |field: &HeaderField| {
            // SAFETY: the bytes of an element are valid during this function, by its contract.
            let (name, value) = unsafe { (field.name.bytes(), field.value.bytes()) };
            Some((String::from_utf8(name.to_vec()).ok()?, value.to_vec()))
        };
        Some(Self { headers: headers.iter().map(copy).collect::<Option<_>>()?, body })
    }
}

/// # Safety
/// The array must be valid for `'a`, or null.
unsafe fn slice<'a, T>((start, length): (*const T, usize)) -> &'a [T] {
    if start.is_null() {
        return &[];
    }
    // SAFETY: by the contract of this function.
    unsafe { std::slice::from_raw_parts(start, length) }
}

/// Wakes the main thread, from any thread, while the configuration exists.
pub(crate) struct ConfigScheduler(EnvoyPtr);

// SAFETY: Envoy's scheduler is a weak reference to the configuration. It posts to the dispatcher of the configuration while it
// holds a strong one, and does nothing after the end. Both may be done from several threads at once.
unsafe impl Send for ConfigScheduler {}
// SAFETY: Envoy posts and locks the reference from any thread, several at once.
unsafe impl Sync for ConfigScheduler {}

impl ConfigScheduler {
    /// Calls [`crate::ingress::Config::on_scheduled`] on the main thread, if the configuration still exists then.
    ///
    /// If all others give up the configuration meanwhile, Envoy destroys it on this thread before this returns. The caller must
    /// hold no lock that [`crate::ingress::Config::end`] takes.
    pub(crate) fn wake(&self) {
        // SAFETY: the scheduler exists until it is dropped.
        unsafe { envoy_dynamic_module_callback_http_filter_config_scheduler_commit(self.0, 0) }
    }
}

impl Drop for ConfigScheduler {
    fn drop(&mut self) {
        // SAFETY: nothing uses the scheduler after this.
        unsafe { envoy_dynamic_module_callback_http_filter_config_scheduler_delete(self.0) }
    }
}
