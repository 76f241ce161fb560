//! Applies updates: of the policy, of the operator's settings, and of the addresses of denied names.

use std::time::Duration;

use sandgate_policy::egress::{DeniedAddresses, NetworkPolicy, OperatorSettings, Policy};
use tokio::time::Instant;

use super::Agent;
use super::envoy::MIN_BACKOFF;
use crate::generation::GenerationPolicy;
use crate::source::SourceState;

/// How long a policy waits for the addresses of the names that it denies. If DNS takes longer, the agent adds the
/// addresses later.
const LOOKUP_LIMIT: Duration = Duration::from_secs(1);

impl Agent {
    /// Applies a policy if it differs from the current one.
    pub(super) async fn update_policy(&mut self, state: SourceState) {
        self.policy_problem = state.problem;
        let Some(new) = state.valid else { return };
        if self.policy.as_ref() != Some(&new) {
            self.update(new, self.operator.clone()).await;
        }
    }

    /// Applies the operator's settings if they differ from the current ones, as a new generation with the current
    /// policy.
    pub(super) async fn update_operator(&mut self, state: SourceState<OperatorSettings>) {
        self.operator_problem = state.problem;
        let Some(new) = state.valid else { return };
        let new = with_guardrails(new, &self.settings.command_line_guardrails);
        match self.policy.clone() {
            _ if self.operator == new => {}
            Some(policy) => self.update(policy, new).await,
            None => self.operator = new,
        }
    }

    async fn update(&mut self, new: NetworkPolicy, operator: OperatorSettings) {
        // Stored first: if a step fails, Envoy restarts with the new policy.
        let old_operator = std::mem::replace(&mut self.operator, operator.clone());
        match self.policy.replace(new.clone()) {
            Some(old) if self.envoy.is_some() => {
                self.follow_denied_names();
                let (both, stricter) = (
                    GenerationPolicy::Intersection(old, new.clone()),
                    old_operator.stricter(&operator),
                );
                if self.apply_intersection(&both, &stricter).await {
                    self.look_up_denied_names().await;
                    self.apply_final(&GenerationPolicy::Single(new), &operator).await;
                }
            }
            _ => {
                self.follow_denied_names();
                self.restart.get_or_insert((Instant::now(), MIN_BACKOFF));
            }
        }
    }

    fn follow_denied_names(&self) {
        if let (Some(denied_names), Some(policy)) = (&self.denied_names, &self.policy) {
            denied_names.follow(&Policy::new(policy, &self.operator));
        }
    }

    /// Waits for the addresses of denied names, for at most [`LOOKUP_LIMIT`].
    pub(super) async fn look_up_denied_names(&mut self) {
        if let Some(denied_names) = &mut self.denied_names {
            self.denied_addresses = denied_names.first(LOOKUP_LIMIT).await;
        }
    }

    /// Applies new addresses of denied names in one step. An intersection is not necessary: only Envoy uses them to
    /// evaluate connections that may show a name, and only nftables uses them for other traffic, so neither depends on
    /// the other.
    pub(super) async fn update_denied_addresses(&mut self, addresses: DeniedAddresses) {
        if self.denied_addresses == addresses {
            return;
        }
        self.denied_addresses = addresses;
        let (Some(policy), Some(_)) = (self.policy.clone(), &self.envoy) else { return };
        tracing::info!(
            "denied names have {} known addresses",
            self.denied_addresses.pairs().count()
        );
        let operator = self.operator.clone();
        self.apply_final(&GenerationPolicy::Single(policy), &operator).await;
    }
}

/// Adds the guardrails of the command line to the settings of the operator's file.
pub(super) fn with_guardrails(
    mut file: OperatorSettings,
    command_line: &OperatorSettings,
) -> OperatorSettings {
    file.protected.extend(&command_line.protected);
    file
}
