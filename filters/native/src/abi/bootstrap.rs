//! The bootstrap extension: what the main thread does for the filters, until Envoy ends.

use std::time::Duration;

use super::*;

unsafe extern "C-unwind" {
    fn envoy_dynamic_module_callback_bootstrap_extension_config_define_counter(
        config: EnvoyPtr,
        name: Buffer,
        labels: *const Buffer,
        labels_length: usize,
        counter: *mut usize,
    ) -> u32;
    fn envoy_dynamic_module_callback_bootstrap_extension_config_increment_counter(
        config: EnvoyPtr,
        counter: usize,
        labels: *const Buffer,
        labels_length: usize,
        value: u64,
    ) -> u32;
    fn envoy_dynamic_module_callback_bootstrap_extension_config_signal_init_complete(
        config: EnvoyPtr,
    );
    fn envoy_dynamic_module_callback_bootstrap_extension_http_callout(
        config: EnvoyPtr,
        callout: *mut u64,
        cluster: Buffer,
        headers: *const HeaderField,
        headers_length: usize,
        body: Buffer,
        timeout_ms: u64,
    ) -> u32;

    fn envoy_dynamic_module_callback_bootstrap_extension_config_scheduler_new(
        config: EnvoyPtr,
    ) -> EnvoyPtr;
    fn envoy_dynamic_module_callback_bootstrap_extension_config_scheduler_commit(
        scheduler: EnvoyPtr,
        event: u64,
    );
    fn envoy_dynamic_module_callback_bootstrap_extension_config_scheduler_delete(
        scheduler: EnvoyPtr,
    );

    fn envoy_dynamic_module_callback_bootstrap_extension_timer_new(config: EnvoyPtr) -> EnvoyPtr;
    fn envoy_dynamic_module_callback_bootstrap_extension_timer_enable(
        timer: EnvoyPtr,
        delay_ms: u64,
    );
    fn envoy_dynamic_module_callback_bootstrap_extension_timer_delete(timer: EnvoyPtr);
}

/// The bootstrap extension while Envoy creates it.
pub(crate) struct ExtensionHandle(EnvoyPtr);

impl ExtensionHandle {
    /// # Safety
    /// The pointer is the one that Envoy passed to a hook of the extension, and the handle does not outlive the hook.
    pub(super) unsafe fn new(config: EnvoyPtr) -> Self {
        Self(config)
    }

    /// Defines a counter. It is the counter of the same name in the configurations of filters.
    pub(crate) fn define_counter(&self, name: &str) -> Counter {
        let mut id = 0;
        // SAFETY: the extension exists, Envoy copies the name, and `id` outlives the call.
        let result = unsafe {
            envoy_dynamic_module_callback_bootstrap_extension_config_define_counter(
                self.0,
                Buffer::of(name.as_bytes()),
                std::ptr::null(),
                0,
                &raw mut id,
            )
        };
        Counter((result == 0).then_some(id))
    }

    pub(crate) fn scheduler(&self) -> MainScheduler {
        // SAFETY: the extension exists.
        MainScheduler(unsafe {
            envoy_dynamic_module_callback_bootstrap_extension_config_scheduler_new(self.0)
        })
    }

    pub(crate) fn timer(&self) -> Timer {
        // SAFETY: the extension exists, and this is its thread.
        Timer(unsafe { envoy_dynamic_module_callback_bootstrap_extension_timer_new(self.0) })
    }

    /// The extension is ready. Envoy waits for this before it accepts connections.
    pub(crate) fn signal_ready(&self) {
        // SAFETY: the extension exists.
        unsafe {
            envoy_dynamic_module_callback_bootstrap_extension_config_signal_init_complete(self.0);
        }
    }
}

/// The main thread, in a hook of the bootstrap extension.
pub(crate) struct MainThread(EnvoyPtr);

impl MainThread {
    /// # Safety
    /// As [`ExtensionHandle::new`].
    pub(super) unsafe fn new(config: EnvoyPtr) -> Self {
        Self(config)
    }

    pub(crate) fn count(&self, counter: Counter) {
        let Counter(Some(id)) = counter else { return };
        // SAFETY: the extension exists, and there are no labels.
        unsafe {
            envoy_dynamic_module_callback_bootstrap_extension_config_increment_counter(
                self.0,
                id,
                std::ptr::null(),
                0,
                1,
            );
        }
    }

    /// Starts a call to a cluster. Envoy passes its response, with the number that this returns, to
    /// `Process::on_callout_done`. It must not be called before Envoy has its clusters, or after it has
    /// begun to end.
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
        // SAFETY: the extension exists, Envoy copies the buffers, and `callout` outlives the call.
        let result = unsafe {
            envoy_dynamic_module_callback_bootstrap_extension_http_callout(
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

/// Wakes the main thread, from any thread, while the extension exists.
pub(crate) struct MainScheduler(EnvoyPtr);

// SAFETY: Envoy's scheduler is a weak reference to the extension's configuration, and posts to the dispatcher of the main
// thread, which outlives the workers. No other thread uses it.
unsafe impl Send for MainScheduler {}
// SAFETY: Envoy posts and locks the reference from any thread, several at once.
unsafe impl Sync for MainScheduler {}

impl MainScheduler {
    /// Calls `Process::on_scheduled` on the main thread, if the extension still exists then.
    pub(crate) fn wake(&self) {
        // SAFETY: the scheduler exists until it is dropped.
        unsafe {
            envoy_dynamic_module_callback_bootstrap_extension_config_scheduler_commit(self.0, 0);
        }
    }
}

impl Drop for MainScheduler {
    fn drop(&mut self) {
        // SAFETY: nothing uses the scheduler after this.
        unsafe {
            envoy_dynamic_module_callback_bootstrap_extension_config_scheduler_delete(self.0);
        }
    }
}

/// A timer of the main thread. It is neither `Send` nor `Sync`, so it is used and dropped there.
pub(crate) struct Timer(EnvoyPtr);

impl Timer {
    /// Calls [`crate::ingress::Extension::on_timer`] after `delay`, once.
    pub(crate) fn start(&self, delay: Duration) {
        let delay = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        // SAFETY: the timer exists until it is dropped, and this is its thread.
        unsafe {
            envoy_dynamic_module_callback_bootstrap_extension_timer_enable(self.0, delay);
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // SAFETY: nothing uses the timer after this, and this is its thread.
        unsafe { envoy_dynamic_module_callback_bootstrap_extension_timer_delete(self.0) }
    }
}
