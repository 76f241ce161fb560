//! One generation after the other: each step is waited for, and where one fails, nothing passes.

use std::sync::Arc;
use std::time::Duration;

use sandgate_policy::egress::Operator;
use tokio::time::Instant;

use super::{Agent, died};
use crate::envoy::files::INSPECTION;
use crate::envoy::probe;
use crate::generation::{Generation, InForce};

/// How long Envoy has for taking a generation, from its start and while it runs.
const STARTS_WITHIN: Duration = Duration::from_secs(60);
const TAKES_WITHIN: Duration = Duration::from_secs(10);
/// How long a dead Envoy stays dead: at first, and at most.
pub(super) const RESTARTS_AFTER: (Duration, Duration) =
    (Duration::from_millis(100), Duration::from_secs(5));
/// How many questions in a row an Envoy leaves unanswered that is taken for dead. A second each: one that is only busy
/// answers some.
const UNANSWERED: u32 = 3;

impl Agent {
    /// A generation that allows nothing more than the one before, so nothing gets out whoever has it first.
    /// nftables has it before Envoy: what is inspected from now on must not meet a filter that does not know
    /// yet why. Whether all have it.
    pub(super) async fn tighten(&mut self, in_force: &InForce, operator: &Operator) -> bool {
        let Some(generation) = self.compile(in_force, operator) else { return false };
        if let Some(dns) = &self.dns {
            dns.set(generation.dns.clone());
        }
        if !self.open(&generation).await {
            return false;
        }
        if generation.names_matter {
            // What nftables took for a connection without names has as long for its first words as one that is
            // inspected: the filter would have to close what is HTTP, since nobody judges its requests.
            tokio::time::sleep(INSPECTION).await;
        }
        self.feed(&generation).await
    }

    /// A generation that allows more: Envoy has it before nftables lets new traffic there, and DNS
    /// says names last.
    pub(super) async fn loosen(&mut self, in_force: &InForce, operator: &Operator) {
        let Some(generation) = self.compile(in_force, operator) else { return };
        if self.feed(&generation).await {
            self.complete(generation).await;
        }
    }

    /// Envoy has it: nftables gets it too, then DNS says names, and the generation is in force.
    async fn complete(&mut self, generation: Generation) -> bool {
        if !self.open(&generation).await {
            return false;
        }
        if let Some(dns) = &self.dns {
            dns.set(generation.dns);
        }
        self.now_in_force(generation.number);
        true
    }

    fn now_in_force(&mut self, number: u64) {
        self.status.ready = true;
        self.status.generation = number;
        self.no_way = None;
        tracing::info!("ready: generation {number} is in force");
    }

    fn compile(&mut self, in_force: &InForce, operator: &Operator) -> Option<Generation> {
        self.number += 1;
        let (names, denied, ports) = (&mut self.names, &self.denied, &self.settings.layout.ports);
        match Generation::compile(self.number, in_force, operator, names, denied, ports) {
            Ok(generation) => Some(generation),
            Err(error) => {
                self.not_taken = Some(error.to_string());
                tracing::error!("{error}; what was in force before stays");
                None
            }
        }
    }

    /// Applies the rules, with which the way is open.
    async fn open(&mut self, generation: &Generation) -> bool {
        self.refusals.set(Arc::clone(&generation.lists));
        match self.gate.open(&generation.rules).await {
            Ok(()) => true,
            Err(error) => {
                // What is in force elsewhere is another generation: nothing passes until all agree.
                self.envoy_is_gone(&format!("it can't be kept in step with nftables: {error}"))
                    .await;
                false
            }
        }
    }

    /// Gives Envoy a generation, and waits until its filter has it.
    async fn feed(&mut self, generation: &Generation) -> bool {
        let Some(files) = &self.files else { return false };
        if let Err(error) = files.write_generation(&generation.filter) {
            self.envoy_is_gone(&error.to_string()).await;
            return false;
        }
        self.confirmed(generation.number, TAKES_WITHIN).await
    }

    /// Whether Envoy's filter has a generation within a time; where not, it is ended.
    async fn confirmed(&mut self, number: u64, limit: Duration) -> bool {
        let port = self.settings.layout.ports.probe;
        let why = tokio::select! {
            () = probe::until(port, number) => return true,
            () = died(self.envoy.as_mut()) => "it ended".to_owned(),
            () = tokio::time::sleep(limit) => format!("it did not take generation {number}"),
        };
        self.envoy_is_gone(&why).await;
        false
    }

    /// Starts Envoy with what is in force, and opens when it has it.
    pub(super) async fn start(&mut self) {
        let backoff = self.restart.take().map_or(RESTARTS_AFTER.0, |(_, backoff)| backoff);
        // Where it fails: later, and later.
        let next = (backoff * 2).min(RESTARTS_AFTER.1);
        let Some(policy) = self.in_force.clone() else { return };
        self.look_up_denied_names().await;
        let operator = self.operator.clone();
        if !self.start_with(&InForce::Only(policy), &operator).await {
            self.restart = Some((Instant::now() + next, next));
        }
    }

    async fn start_with(&mut self, in_force: &InForce, operator: &Operator) -> bool {
        let Some(generation) = self.compile(in_force, operator) else { return false };
        let Some(files) = &self.files else { return false };
        let written =
            files.write_generation(&generation.filter).and_then(|()| files.write_bootstrap());
        let started = written
            .map_err(|error| error.to_string())
            .and_then(|path| self.settings.envoy.start(&path).map_err(|error| error.to_string()));
        match started {
            Ok(child) => self.envoy = Some(child),
            Err(error) => {
                self.envoy_is_gone(&error).await;
                return false;
            }
        }
        self.confirmed(generation.number, STARTS_WITHIN).await && self.complete(generation).await
    }

    /// Asks an Envoy that is in force whether it goes on working. One that hangs takes connections, and does
    /// nothing with them.
    pub(super) async fn look_after_envoy(&mut self) {
        if !self.status.ready || probe::answers(self.settings.layout.ports.probe).await {
            self.unanswered = 0;
            return;
        }
        self.unanswered += 1;
        if self.unanswered >= UNANSWERED {
            self.envoy_is_gone("it does not answer any more").await;
        }
    }

    /// Closes; ends what is left of Envoy; and has it started again.
    pub(super) async fn envoy_is_gone(&mut self, why: &str) {
        self.gate.close().await;
        self.status.ready = false;
        self.status.envoy_restarts += 1;
        self.unanswered = 0;
        let problem = format!("there is no way out, because of Envoy: {why}");
        tracing::error!("{problem}; it is started again");
        self.no_way = Some(problem);
        self.say();
        if let Some(child) = self.envoy.take() {
            child.stop().await;
        }
        let backoff = RESTARTS_AFTER.0;
        self.restart.get_or_insert((Instant::now() + backoff, backoff));
    }
}
