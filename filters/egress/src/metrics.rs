//! What the filter counts. Names are few and fixed: nothing that a sandbox sends becomes one.

use sandgate_hostcalls::metrics::{Counter, Gauge};
use sandgate_policy::egress::Rule;

use crate::vm::Protocol;

/// Counters of the filter, the same for all VMs of a proxy.
pub(crate) struct Metrics {
    tcp: PerProtocol,
    http: PerProtocol,
    errors: Counter,
    generation: Gauge,
}

struct PerProtocol {
    allowed: Vec<(&'static str, Counter)>,
    denied: Vec<(&'static str, Counter)>,
    closed: Counter,
}

impl PerProtocol {
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
            tcp: PerProtocol::define("tcp"),
            http: PerProtocol::define("http"),
            errors: Counter::define("sandgate_egress_host_errors_total"),
            generation: Gauge::define("sandgate_egress_generation"),
        }
    }

    fn of(&self, protocol: Protocol) -> &PerProtocol {
        match protocol {
            Protocol::Http => &self.http,
            Protocol::Tcp => &self.tcp,
        }
    }

    pub(crate) fn decision(&self, protocol: Protocol, allowed: bool, rule: &Rule) {
        let counters = self.of(protocol);
        let by_rule = if allowed { &counters.allowed } else { &counters.denied };
        if let Some((_, counter)) = by_rule.iter().find(|(kind, _)| *kind == rule.kind()) {
            counter.increment();
        }
    }

    pub(crate) fn closed(&self, protocol: Protocol) {
        self.of(protocol).closed.increment();
    }

    pub(crate) fn host_error(&self) {
        self.errors.increment();
    }

    pub(crate) fn generation(&self, generation: u64) {
        self.generation.set(generation);
    }
}
