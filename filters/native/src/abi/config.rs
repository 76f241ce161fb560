//! The configuration of an HTTP filter: its counters and gauges.

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
}
