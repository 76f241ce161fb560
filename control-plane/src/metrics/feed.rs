//! Waits of owners' changes for the edges.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::durations;

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Ended {
    outcome: &'static str,
}

/// Counts waits until all edges have applied a change, and lookups of credentials. Clones share the counters.
#[derive(Clone)]
pub struct FeedMetrics {
    waits: Family<Ended, Counter>,
    durations: Histogram,
    credentials: Family<Ended, Counter>,
}

impl Default for FeedMetrics {
    fn default() -> Self {
        Self { waits: Family::default(), durations: durations(), credentials: Family::default() }
    }
}

impl FeedMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "apply_waits",
            "Waits until edges have applied a change",
            self.waits.clone(),
        );
        registry.register(
            "apply_wait_duration_seconds",
            "Time until all edges had applied a change, or the wait ended",
            self.durations.clone(),
        );
        registry.register(
            "credential_lookups",
            "Lookups of credentials by edges, by their result",
            self.credentials.clone(),
        );
    }

    pub(crate) fn waited(&self, time: Duration, applied: bool) {
        self.durations.observe(time.as_secs_f64());
        let outcome = if applied { "applied" } else { "timed_out" };
        self.waits.get_or_create(&Ended { outcome }).inc();
    }

    pub(crate) fn looked_up(&self, is_valid: bool) {
        let outcome = if is_valid { "valid" } else { "invalid" };
        self.credentials.get_or_create(&Ended { outcome }).inc();
    }
}
