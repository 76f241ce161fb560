//! Counters and gauges of the proxy.

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

/// A value that goes up and down. One that could not be defined shows nothing, and harms nothing.
#[derive(Clone, Copy, Debug)]
pub struct Gauge(Option<u32>);

impl Gauge {
    /// Defines a gauge, or finds the one of this name.
    #[must_use]
    pub fn define(name: &str) -> Self {
        Self(hostcalls::define_metric(MetricType::Gauge, name).ok())
    }

    /// Shows a value.
    pub fn set(self, value: u64) {
        if let Self(Some(id)) = self {
            let _ = hostcalls::record_metric(id, value);
        }
    }
}
