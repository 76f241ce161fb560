//! The counters of the filters. Their names are few and fixed: no input of a sandbox becomes a name.

use sandgate_policy::egress::Rule;

use crate::egress::decision::{Decision, FilterKind, Outcome};

/// The gauge that shows the policy generation of the active configuration.
pub const GENERATION_GAUGE: &str = "sandgate_egress_generation";

/// The counters, as the host defines them.
#[derive(Debug)]
pub struct Metrics<C> {
    tcp: FilterMetrics<C>,
    http: FilterMetrics<C>,
    host_errors: C,
}

#[derive(Debug)]
struct FilterMetrics<C> {
    allowed: Vec<(&'static str, C)>,
    denied: Vec<(&'static str, C)>,
    closed: C,
}

impl<C> FilterMetrics<C> {
    fn define(protocol: &str, counter: &mut impl FnMut(&str) -> C) -> Self {
        let mut by_rule = |verdict: &str| {
            let name =
                |kind: &str| format!("sandgate_egress_decisions_total.{protocol}.{verdict}.{kind}");
            Rule::KINDS.iter().map(|kind| (*kind, counter(&name(kind)))).collect()
        };
        Self {
            allowed: by_rule("allow"),
            denied: by_rule("deny"),
            closed: counter(&format!("sandgate_egress_closed_total.{protocol}")),
        }
    }
}

impl<C> Metrics<C> {
    /// Defines all counters by their names.
    pub fn define(mut counter: impl FnMut(&str) -> C) -> Self {
        Self {
            tcp: FilterMetrics::define("tcp", &mut counter),
            http: FilterMetrics::define("http", &mut counter),
            host_errors: counter("sandgate_egress_host_errors_total"),
        }
    }

    /// `None` does not occur: the kind of every rule is in the list of kinds.
    pub fn decision(&self, decision: &Decision) -> Option<&C> {
        let metrics = match decision.kind {
            FilterKind::Tcp => &self.tcp,
            FilterKind::Http => &self.http,
        };
        let by_rule = match decision.outcome {
            Outcome::Allowed => &metrics.allowed,
            Outcome::Denied => &metrics.denied,
            Outcome::Closed => return Some(&metrics.closed),
        };
        let kind = decision.rule.kind();
        by_rule.iter().find(|(other, _)| *other == kind).map(|(_, counter)| counter)
    }

    /// The host refused a call, or no decision was possible.
    pub fn host_error(&self) -> &C {
        &self.host_errors
    }
}
