//! The counters of the filter. No name depends on what a client sends.

use sandgate_policy::ingress::denial::Denial;

use crate::ingress::effect::CallKind;
use crate::ingress::guards::MissingGuard;

/// The counters, as the host defines them.
pub struct Metrics<C> {
    permits: C,
    preflights: C,
    denials: Vec<(&'static str, C)>,
    lookups: [[C; 2]; 4],
    rechecks: C,
    closed: C,
    missing_black_holes: C,
    missing_address_checks: C,
    errors: C,
}

impl<C> Metrics<C> {
    /// Defines all counters by their names.
    pub fn define(mut counter: impl FnMut(&str) -> C) -> Self {
        let mut decision =
            |code: &str| counter(&format!("sandgate_ingress_decisions_total.{code}"));
        let permits = decision("permit");
        let preflights = decision("preflight");
        let denials = Denial::CODES.iter().map(|code| (*code, decision(code))).collect();
        let lookups = ["sandbox", "caller", "resume", "changes"].map(|what| {
            ["answered", "failed"]
                .map(|how| counter(&format!("sandgate_ingress_lookups_total.{what}.{how}")))
        });
        Self {
            permits,
            preflights,
            denials,
            lookups,
            rechecks: counter("sandgate_ingress_rechecks_total"),
            closed: counter("sandgate_ingress_streams_closed_total"),
            missing_black_holes: counter("sandgate_ingress_missing_black_holes_total"),
            missing_address_checks: counter("sandgate_ingress_missing_address_checks_total"),
            errors: counter("sandgate_ingress_host_errors_total"),
        }
    }

    pub fn permit(&self) -> &C {
        &self.permits
    }

    pub fn preflight(&self) -> &C {
        &self.preflights
    }

    /// `None` does not occur: every denial's code is in the list of codes.
    pub fn denial(&self, denial: Denial) -> Option<&C> {
        let mut denials = self.denials.iter();
        denials.find(|(code, _)| *code == denial.code()).map(|(_, counter)| counter)
    }

    pub fn call(&self, kind: CallKind, is_answered: bool) -> &C {
        let [sandbox, caller, resume, changes] = &self.lookups;
        let [answered, failed] = match kind {
            CallKind::Sandbox => sandbox,
            CallKind::Caller => caller,
            CallKind::Resume => resume,
            CallKind::Changes => changes,
        };
        if is_answered { answered } else { failed }
    }

    pub fn recheck(&self) -> &C {
        &self.rechecks
    }

    pub fn stream_closed(&self) -> &C {
        &self.closed
    }

    /// A look has found that a guard is missing.
    pub fn missing_guard(&self, guard: MissingGuard) -> &C {
        match guard {
            MissingGuard::BlackHole => &self.missing_black_holes,
            MissingGuard::AddressCheck | MissingGuard::SameNetworks => &self.missing_address_checks,
        }
    }

    /// A call of the host has failed.
    pub fn host_error(&self) -> &C {
        &self.errors
    }
}
