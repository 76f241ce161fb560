//! Counters and gauges of Envoy.

use proxy_wasm::hostcalls;
use proxy_wasm::types::MetricType;

/// A counter. If it could not be defined, it counts nothing.
#[derive(Clone, Copy, Debug)]
pub struct Counter(Option<u32>);

impl Counter {
    /// Defines a counter. Counters with the same name are the same counter, in all VMs.
    #[must_use]
    pub fn define(name: &str) -> Self {
        Self(hostcalls::define_metric(MetricType::Counter, name).ok())
    }

    /// Adds 1.
    pub fn increment(self) {
        self.add(1);
    }

    /// Adds a number.
    pub fn add(self, number: u32) {
        if let Self(Some(id)) = self {
            // A request is not denied because counting fails.
            let _ = hostcalls::increment_metric(id, number.into());
        }
    }
}

/// A gauge. If it could not be defined, it shows nothing.
#[derive(Clone, Copy, Debug)]
pub struct Gauge(Option<u32>);

impl Gauge {
    /// Defines a gauge. Gauges with the same name are the same gauge, in all VMs.
    #[must_use]
    pub fn define(name: &str) -> Self {
        Self(hostcalls::define_metric(MetricType::Gauge, name).ok())
    }

    /// Sets the value.
    pub fn set(self, value: u64) {
        if let Self(Some(id)) = self {
            let _ = hostcalls::record_metric(id, value);
        }
    }
}
