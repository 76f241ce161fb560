//! What the agent tells of itself, and of what it refused.

use super::Agent;
use crate::metrics::Numbers;
use crate::nftables::counters;
use crate::status;

impl Agent {
    pub(super) fn say(&mut self) {
        let problems = [&self.no_way, &self.not_taken, &self.operator_not_taken];
        self.status.problem = problems.into_iter().find_map(Clone::clone);
        self.status.agent_resident_bytes = status::resident_bytes(std::process::id());
        self.status.envoy_resident_bytes =
            self.envoy.as_ref().and_then(|child| status::resident_bytes(child.pid()));
        self.said.say(&self.status);
    }

    /// Tells in numbers what was done, and what was refused without being told one by one.
    pub(super) fn count(&mut self) {
        let refused = counters::read();
        let told = self.refusals.reported();
        match &refused {
            Ok(refused) => {
                let untold = self.unreported.more(refused, told);
                if untold > 0 {
                    tracing::info!(target: "sandgate::packets", untold, "more packets denied");
                }
            }
            Err(error) => tracing::error!("what nftables refused can't be counted: {error}"),
        }
        let dns = self.dns.as_ref().map(|dns| dns.counters().values()).unwrap_or_default();
        let refused = refused.as_ref().ok();
        let sandbox = self.settings.sandbox.as_deref();
        self.said.count(&Numbers { sandbox, status: &self.status, refused, told, dns: &dns });
    }
}
