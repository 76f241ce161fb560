//! Starts, checks and restarts Envoy.

use std::path::Path;
use std::time::Duration;

use sandgate_policy::egress::OperatorSettings;
use tokio::time::Instant;

use super::Agent;
use crate::envoy::{Child, probe};
use crate::generation::GenerationPolicy;

/// The time within which a starting Envoy must confirm its generation.
const START_LIMIT: Duration = Duration::from_secs(60);
/// The delay before a restart. It doubles with each failed start.
pub(super) const MIN_BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(5);
/// The number of failed health checks in a row after which Envoy counts as hung. A check fails after a second, and an
/// Envoy that is only busy passes some.
const MAX_FAILED_CHECKS: u32 = 3;

impl Agent {
    /// Starts Envoy with the current policy, and opens the gate when Envoy has confirmed it.
    pub(super) async fn start_envoy(&mut self) {
        let backoff = self.restart.take().map_or(MIN_BACKOFF, |(_, backoff)| backoff);
        let next = (backoff * 2).min(MAX_BACKOFF);
        let Some(policy) = self.policy.clone() else { return };
        self.look_up_denied_names().await;
        let operator = self.operator.clone();
        if !self.start_envoy_with(&GenerationPolicy::Single(policy), &operator).await {
            self.restart = Some((Instant::now() + next, next));
        }
    }

    async fn start_envoy_with(
        &mut self,
        policy: &GenerationPolicy,
        operator: &OperatorSettings,
    ) -> bool {
        let Some(generation) = self.compile(policy, operator) else { return false };
        let Some(files) = &self.envoy_files else { return false };
        let written = files
            .write_generation(&generation.filter_config)
            .and_then(|()| files.write_bootstrap());
        let started =
            written.map_err(|error| error.to_string()).and_then(|path| self.start_process(&path));
        match started {
            Ok(child) => self.envoy = Some(child),
            Err(error) => {
                self.restart_envoy(&error).await;
                return false;
            }
        }
        self.confirmed(generation.number, START_LIMIT).await && self.complete(generation).await
    }

    fn start_process(&self, bootstrap: &Path) -> Result<Child, String> {
        let started = self.settings.envoy.start(bootstrap, self.denials.clone());
        started.map_err(|error| error.to_string())
    }

    /// Checks that Envoy responds, if the gate is open. A hung Envoy accepts connections without forwarding them.
    pub(super) async fn check_envoy(&mut self) {
        if !self.status.ready || probe::responds(self.settings.layout.ports.probe).await {
            self.failed_checks = 0;
            return;
        }
        self.failed_checks += 1;
        if self.failed_checks >= MAX_FAILED_CHECKS {
            self.restart_envoy("Envoy does not respond").await;
        }
    }

    /// Closes the gate, stops Envoy, and schedules its next start.
    pub(super) async fn restart_envoy(&mut self, reason: &str) {
        self.gate.close().await;
        self.status.ready = false;
        self.status.envoy_restarts += 1;
        self.failed_checks = 0;
        let problem = format!("all traffic is denied: {reason}");
        tracing::error!("{problem}; restarting Envoy");
        self.outage = Some(problem);
        self.publish_status();
        if let Some(child) = self.envoy.take() {
            child.stop().await;
        }
        self.restart.get_or_insert((Instant::now() + MIN_BACKOFF, MIN_BACKOFF));
    }
}
