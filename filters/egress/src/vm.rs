//! The state that all contexts of a VM share.
//!
//! The root contexts don't own it: a connection belongs to the root context under which it began, and
//! one may still begin under the old root context after the new one has been configured.

use std::cell::RefCell;

use sandgate_engine::egress::{Decision, Engine, GENERATION_GAUGE, Metrics};
use sandgate_hostcalls::metrics::{Counter, Gauge};

thread_local! {
    static VM: RefCell<Vm> = RefCell::new(Vm::default());
}

#[derive(Default)]
pub(crate) struct Vm {
    pub(crate) engine: Engine,
    /// `None` before the first configuration.
    metrics: Option<(Metrics<Counter>, Gauge)>,
}

/// Runs `f` on the VM's state. Envoy enters no callback of this VM during another one, so the borrow
/// succeeds. If it failed nevertheless, the result would be `None`, which callers treat as a denial.
pub(crate) fn with<T>(f: impl FnOnce(&mut Vm) -> T) -> Option<T> {
    VM.with(|vm| vm.try_borrow_mut().ok().map(|mut vm| f(&mut vm)))
}

/// Counts a call that the host refused, or an event for which no decision was possible.
pub(crate) fn count_host_error() {
    with(|vm| vm.metrics.as_ref().map(|(metrics, _)| metrics.host_error().increment()));
}

pub(crate) fn count(decision: &Decision) {
    with(|vm| {
        let counter = vm.metrics.as_ref().and_then(|(metrics, _)| metrics.decision(decision));
        counter.map(|counter| counter.increment())
    });
}

impl Vm {
    /// Defines the metrics, if they are not, and shows the active policy generation.
    pub(crate) fn show_generation(&mut self, generation: u64) {
        let define = || (Metrics::define(Counter::define), Gauge::define(GENERATION_GAUGE));
        let (_, gauge) = self.metrics.get_or_insert_with(define);
        gauge.set(generation);
    }
}
