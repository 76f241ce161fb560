//! What counters and access logs say about a connection or request.

use std::cell::RefCell;

use sandgate_engine::egress::Decision;

use super::Metrics;
use crate::abi::{Counter, Result};

/// The last decision about a stream.
#[derive(Default)]
pub(super) struct Report(RefCell<Option<Decision>>);

impl Report {
    /// Counts a decision, and keeps it for the access log.
    pub(super) fn set(&self, decision: Decision, metrics: &Metrics, count: impl FnOnce(Counter)) {
        if let Some(counter) = metrics.decision(&decision) {
            count(*counter);
        }
        self.0.replace(Some(decision));
    }

    /// Shows the decision to access logs. Envoy takes each property once, so this is done when the stream has ended.
    pub(super) fn show(&self, set_property: impl Fn(&str, &str) -> Result<()>) {
        let Some(decision) = self.0.take() else { return };
        // A decision takes effect even if Envoy refuses to show it.
        let _ = set_property("wasm.sandgate_decision", decision.outcome.name());
        let _ = set_property("wasm.sandgate_rule", &decision.rule.to_string());
        let _ = set_property("wasm.sandgate_generation", &decision.generation.to_string());
    }
}
