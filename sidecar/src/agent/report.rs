//! Publishes the agent's status and metrics.

use super::Agent;
use crate::envoy::probe;
use crate::nftables::counters;
use crate::nftables::refuse_chains::Cause;
use crate::report::{Metrics, resident_bytes};

impl Agent {
    /// Adds the denials that Envoy has counted and not logged to the report.
    pub(super) async fn count_unlogged_denials(&mut self) {
        let Some(child) = self.envoy.as_mut().filter(|_| self.status.ready) else { return };
        if let Some(counted) = probe::denials(self.settings.layout.ports.admin).await {
            self.denials.add_more(child.unlogged(counted));
        }
    }

    pub(super) fn publish_status(&mut self) {
        let problems = [&self.outage, &self.policy_problem, &self.operator_problem];
        self.status.problem = problems.into_iter().find_map(Clone::clone);
        self.status.agent_resident_bytes = resident_bytes(std::process::id());
        self.status.envoy_resident_bytes =
            self.envoy.as_ref().and_then(|child| resident_bytes(child.pid()));
        self.report_files.publish_status(&self.status);
    }

    /// Publishes the metrics, and logs the number of refused packets that were not logged individually.
    pub(super) fn publish_metrics(&mut self) {
        let refused = counters::read();
        let logged = self.refusals.reported();
        match &refused {
            Ok(refused) => {
                let unlogged = self.unreported.more(refused.values().sum(), logged);
                if unlogged > 0 {
                    tracing::info!(target: "sandgate::packets", unlogged, "more packets denied");
                }
                let by_rules = refused.iter().filter(|(counter, _)| {
                    let mut others = Cause::ALL.into_iter().filter(|cause| cause.is_by_no_rule());
                    !others.any(|cause| cause.counter() == Some(counter.as_str()))
                });
                let counted = by_rules.map(|(_, packets)| packets).sum();
                let reported = self.refusals.reported_by_rules();
                self.denials.add_more(self.unreported_by_rules.more(counted, reported));
            }
            Err(error) => tracing::error!("the counters of nftables can't be read: {error}"),
        }
        let dns = self.dns.as_ref().map(|dns| dns.counters().values()).unwrap_or_default();
        self.report_files.publish_metrics(&Metrics {
            sandbox: self.settings.sandbox_id.as_deref(),
            status: &self.status,
            refused: refused.as_ref().ok(),
            logged,
            dns: &dns,
        });
    }
}
