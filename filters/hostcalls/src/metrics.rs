//! Counters of the proxy.

use proxy_wasm::hostcalls;
use proxy_wasm::types::MetricType;

/// A counter. One that could not be defined counts nothing, and harms nothing.
#[derive(Clone, Copy, Debug)]
pub struct Counter(Option<u32>);

impl Counter {
    /// Defines a counter, or finds the one of this name.
    #[must_use]
    pub fn define(name: &str) -> Self {
        Self(hostcalls::define_metric(MetricType::Counter, name).ok())
    }

    /// Counts one.
    pub fn increment(self) {
        if let Self(Some(id)) = self {
            // Counting must never be a reason to refuse a request.
            let _ = hostcalls::increment_metric(id, 1);
        }
    }
}
