//! What is offered, a policy or what goes with it, is put in force.

use std::time::Duration;

use sandgate_policy::egress::{DeniedAddresses, NetworkPolicy, Operator, Policy};
use tokio::time::Instant;

use super::Agent;
use super::step::RESTARTS_AFTER;
use crate::generation::InForce;
use crate::source::Offer;

/// How long a policy waits for the addresses of the names that it denies. DNS can be slower, or broken: then
/// they come later.
const LOOKS_UP_WITHIN: Duration = Duration::from_secs(1);

impl Agent {
    /// Puts what was offered in force, if it is new.
    pub(super) async fn take(&mut self, offer: Offer) {
        self.not_taken = offer.problem;
        let Some(new) = offer.good else { return };
        if self.in_force.as_ref() != Some(&new) {
            self.change(new, self.operator.clone()).await;
        }
    }

    /// The same of the operator's settings: also as one generation, with the policy that there is.
    pub(super) async fn take_operator(&mut self, offer: Offer<Operator>) {
        self.operator_not_taken = offer.problem;
        let Some(new) = offer.good else { return };
        let new = with_guards(new, &self.settings.operator);
        match self.in_force.clone() {
            _ if self.operator == new => {}
            Some(policy) => self.change(policy, new).await,
            None => self.operator = new,
        }
    }

    async fn change(&mut self, new: NetworkPolicy, operator: Operator) {
        // Whatever happens on the way, the new one is what Envoy starts with next.
        let old_operator = std::mem::replace(&mut self.operator, operator.clone());
        match self.in_force.replace(new.clone()) {
            Some(old) if self.envoy.is_some() => {
                self.follow_denied_names();
                let both = (InForce::Both(old, new.clone()), old_operator.stricter(&operator));
                if self.tighten(&both.0, &both.1).await {
                    self.look_up_denied_names().await;
                    self.loosen(&InForce::Only(new), &operator).await;
                }
            }
            _ => {
                self.follow_denied_names();
                self.restart.get_or_insert((Instant::now(), RESTARTS_AFTER.0));
            }
        }
    }

    fn follow_denied_names(&self) {
        if let (Some(denied_names), Some(policy)) = (&self.denied_names, &self.in_force) {
            denied_names.follow(&Policy::new(policy, &self.operator));
        }
    }

    /// Waits for their addresses, a moment.
    pub(super) async fn look_up_denied_names(&mut self) {
        if let Some(denied_names) = &mut self.denied_names {
            self.denied = denied_names.first(LOOKS_UP_WITHIN).await;
        }
    }

    /// Puts in force what is known of denied names. One step: Envoy alone judges by it what may show names,
    /// and nftables alone what has none, so that neither waits for the other.
    pub(super) async fn learn(&mut self, denied: DeniedAddresses) {
        if self.denied == denied {
            return;
        }
        self.denied = denied;
        let (Some(policy), Some(_)) = (self.in_force.clone(), &self.envoy) else { return };
        tracing::info!("denied names are at {} addresses", self.denied.pairs().count());
        let operator = self.operator.clone();
        self.loosen(&InForce::Only(policy), &operator).await;
    }
}

/// What a file says, and the guardrails that no file takes away.
pub(super) fn with_guards(mut file: Operator, always: &Operator) -> Operator {
    file.protected.extend(&always.protected);
    file
}
