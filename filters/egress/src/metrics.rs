//! The filter's counters. Their names are few and fixed: no input of a sandbox becomes a name.

use sandgate_engine::egress::{Decision, FilterKind, Outcome};
use sandgate_hostcalls::metrics::{Counter, Gauge};
use sandgate_policy::egress::Rule;

/// Counters of the filter. All VMs of an Envoy share them.
pub(crate) struct Metrics {
    tcp: FilterMetrics,
    http: FilterMetrics,
    host_errors: Counter,
    generation: Gauge,
}

struct FilterMetrics {
    allowed: Vec<(&'static str, Counter)>,
    denied: Vec<(&'static str, Counter)>,
    closed: Counter,
}

impl FilterMetrics {
    fn define(protocol: &str) -> Self {
        let by_rule = |verdict: &str| {
            let name =
                |kind: &str| format!("sandgate_egress_decisions_total.{protocol}.{verdict}.{kind}");
            Rule::KINDS.iter().map(|kind| (*kind, Counter::define(&name(kind)))).collect()
        };
        Self {
            allowed: by_rule("allow"),
            denied: by_rule("deny"),
            closed: Counter::define(&format!("sandgate_egress_closed_total.{protocol}")),
        }
    }
}

impl Metrics {
    pub(crate) fn define() -> Self {
        Self {
            tcp: FilterMetrics::define("tcp"),
            http: FilterMetrics::define("http"),
            host_errors: Counter::define("sandgate_egress_host_errors_total"),
            generation: Gauge::define("sandgate_egress_generation"),
        }
    }

    pub(crate) fn count(&self, decision: &Decision) {
        let metrics = match decision.kind {
            FilterKind::Tcp => &self.tcp,
            FilterKind::Http => &self.http,
        };
        let by_rule = match decision.outcome {
            Outcome::Allowed => &metrics.allowed,
            Outcome::Denied => &metrics.denied,
            Outcome::Closed => return metrics.closed.increment(),
        };
        if let Some((_, counter)) = by_rule.iter().find(|(kind, _)| *kind == decision.rule.kind()) {
            counter.increment();
        }
    }

    pub(crate) fn count_host_error(&self) {
        self.host_errors.increment();
    }

    pub(crate) fn show_generation(&self, generation: u64) {
        self.generation.set(generation);
    }
}
