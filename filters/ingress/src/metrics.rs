//! The counters of the filter. No name depends on what a client sends.

use sandgate_engine::ingress::CallKind;
use sandgate_hostcalls::metrics::Counter;
use sandgate_policy::ingress::denial::Denial;

/// All VMs of an Envoy share the counters.
pub(crate) struct Metrics {
    permits: Counter,
    preflights: Counter,
    denials: Vec<(&'static str, Counter)>,
    lookups: [[Counter; 2]; 4],
    rechecks: Counter,
    closed: Counter,
    errors: Counter,
}

impl Metrics {
    pub(crate) fn define() -> Self {
        let decision =
            |code: &str| Counter::define(&format!("sandgate_ingress_decisions_total.{code}"));
        let lookup = |what: &str| {
            ["answered", "failed"]
                .map(|how| Counter::define(&format!("sandgate_ingress_lookups_total.{what}.{how}")))
        };
        Self {
            permits: decision("permit"),
            preflights: decision("preflight"),
            denials: Denial::CODES.iter().map(|code| (*code, decision(code))).collect(),
            lookups: ["sandbox", "caller", "resume", "changes"].map(lookup),
            rechecks: Counter::define("sandgate_ingress_rechecks_total"),
            closed: Counter::define("sandgate_ingress_streams_closed_total"),
            errors: Counter::define("sandgate_ingress_host_errors_total"),
        }
    }

    pub(crate) fn permit(&self) {
        self.permits.increment();
    }

    pub(crate) fn preflight(&self) {
        self.preflights.increment();
    }

    pub(crate) fn denial(&self, denial: Denial) {
        if let Some((_, counter)) = self.denials.iter().find(|(code, _)| *code == denial.code()) {
            counter.increment();
        }
    }

    pub(crate) fn call(&self, kind: CallKind, is_answered: bool) {
        let [sandbox, caller, resume, changes] = &self.lookups;
        let [answered, failed] = match kind {
            CallKind::Sandbox => sandbox,
            CallKind::Caller => caller,
            CallKind::Resume => resume,
            CallKind::Changes => changes,
        };
        if is_answered { answered.increment() } else { failed.increment() }
    }

    pub(crate) fn recheck(&self) {
        self.rechecks.increment();
    }

    pub(crate) fn stream_closed(&self) {
        self.closed.increment();
    }

    pub(crate) fn host_error(&self) {
        self.errors.increment();
    }
}
