//! Rolls out one policy generation to DNS, nftables and Envoy. Each step ends when its enforcer has confirmed the
//! generation. If a step fails, the gate closes.

use std::sync::Arc;
use std::time::Duration;

use sandgate_policy::egress::OperatorSettings;

use super::{Agent, exited};
use crate::envoy::files::INSPECTION_TIMEOUT;
use crate::envoy::probe;
use crate::generation::{Generation, GenerationPolicy};

/// The time within which a running Envoy must confirm a generation.
const CONFIRMATION_LIMIT: Duration = Duration::from_secs(10);

impl Agent {
    /// Rolls out an intersection. It allows nothing more than the previous generation, so the order of DNS and nftables
    /// does not matter. nftables applies it before Envoy, so that connections that the new policy must inspect already
    /// go to the inspecting listener when Envoy's filter applies the policy. Returns whether all three have applied
    /// it.
    pub(super) async fn apply_intersection(
        &mut self,
        policy: &GenerationPolicy,
        operator: &OperatorSettings,
    ) -> bool {
        let Some(generation) = self.compile(policy, operator) else { return false };
        if let Some(dns) = &self.dns {
            dns.set(generation.dns.clone());
        }
        if !self.apply_rules(&generation).await {
            return false;
        }
        if generation.has_domains {
            // Connections that nftables has sent to the listener without inspection may still send their first bytes,
            // for as long as an inspected connection may. If they turned out to be HTTP after the filter has changed,
            // the filter would have to close them, because no filter evaluates their requests.
            tokio::time::sleep(INSPECTION_TIMEOUT).await;
        }
        self.configure_envoy(&generation).await
    }

    /// Rolls out the generation that stays. It may allow more than the previous one: Envoy applies it before nftables
    /// sends new connections to it, and DNS resolves the newly allowed names last.
    pub(super) async fn apply_final(
        &mut self,
        policy: &GenerationPolicy,
        operator: &OperatorSettings,
    ) {
        let Some(generation) = self.compile(policy, operator) else { return };
        if self.configure_envoy(&generation).await {
            self.complete(generation).await;
        }
    }

    /// Applies a generation that Envoy has confirmed in nftables and DNS. Returns whether both have applied it.
    pub(super) async fn complete(&mut self, generation: Generation) -> bool {
        if !self.apply_rules(&generation).await {
            return false;
        }
        if let Some(dns) = &self.dns {
            dns.set(generation.dns);
        }
        self.status.ready = true;
        self.status.generation = generation.number;
        self.outage = None;
        tracing::info!("ready: policy generation {} is applied", generation.number);
        true
    }

    pub(super) fn compile(
        &mut self,
        policy: &GenerationPolicy,
        operator: &OperatorSettings,
    ) -> Option<Generation> {
        self.last_generation += 1;
        let generation = Generation::compile(
            self.last_generation,
            policy,
            operator,
            &mut self.virtual_addresses,
            &self.denied_addresses,
            &self.settings.layout.ports,
        );
        generation
            .inspect_err(|error| {
                self.policy_problem = Some(error.to_string());
                tracing::error!(
                    "{error}; the enforcers keep the previous generation until Envoy restarts"
                );
            })
            .ok()
    }

    /// Applies the nftables rules, and opens the gate.
    async fn apply_rules(&mut self, generation: &Generation) -> bool {
        self.refusals.set(Arc::clone(&generation.refusal_rules));
        self.denials.set_virtual_addresses(generation.virtual_addresses.clone());
        match self.gate.open(&generation.nft_transaction).await {
            Ok(()) => true,
            Err(error) => {
                // DNS or Envoy may have applied another generation. The restart closes the gate until all agree.
                self.restart_envoy(&format!("nftables can't apply its generation: {error}")).await;
                false
            }
        }
    }

    /// Writes the configuration of Envoy's filter, and waits until the filter has confirmed it.
    async fn configure_envoy(&mut self, generation: &Generation) -> bool {
        let Some(files) = &self.envoy_files else { return false };
        if let Err(error) = files.write_generation(&generation.filter_config) {
            self.restart_envoy(&error.to_string()).await;
            return false;
        }
        self.confirmed(generation.number, CONFIRMATION_LIMIT).await
    }

    /// Waits until Envoy's filter has confirmed a generation. Restarts Envoy if it has not done so within `limit`.
    pub(super) async fn confirmed(&mut self, number: u64, limit: Duration) -> bool {
        let port = self.settings.layout.ports.probe;
        let reason = tokio::select! {
            () = probe::until_applied(port, number) => return true,
            () = exited(self.envoy.as_mut()) => "Envoy exited".to_owned(),
            () = tokio::time::sleep(limit) => format!("Envoy did not confirm policy generation {number}"),
        };
        self.restart_envoy(&reason).await;
        false
    }
}
