//! Resumes and suspensions, and the calls of the runtime.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use sandgate_policy::gateway_api::SandboxState;

use super::durations;
use crate::model::Sandbox;
use crate::runtime::{Runtime, RuntimeError, RuntimeFuture};
use crate::sandboxes::{ResumeError, ResumePolicy, SuspendError};

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Resumed {
    by: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Suspended {
    outcome: &'static str,
}

/// Counts calls that resume or suspend a sandbox. Callers that share a resume count each. Clones share the counters.
#[derive(Clone, Default)]
pub struct ResumeMetrics {
    resumes: Family<Resumed, Counter>,
    suspensions: Family<Suspended, Counter>,
}

impl ResumeMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("resumes", "Calls that resume a sandbox", self.resumes.clone());
        registry.register("suspensions", "Calls that suspend a sandbox", self.suspensions.clone());
    }

    pub(crate) fn resumed(&self, policy: ResumePolicy, result: &Result<Sandbox, ResumeError>) {
        let by = match policy {
            ResumePolicy::Owner => "owner",
            ResumePolicy::Request => "request",
            ResumePolicy::PublicRequest => "public_request",
        };
        let outcome = match result {
            Ok(sandbox) if sandbox.state == SandboxState::Running => "running",
            Ok(_) => "not_running",
            Err(ResumeError::Failed(failure)) if failure.refused => "refused",
            Err(ResumeError::Failed(_)) => "failed",
            Err(ResumeError::Store(_)) => "store_failed",
            Err(ResumeError::NotFound) => "not_found",
            Err(ResumeError::NotResumable(_)) => "not_resumable",
            Err(ResumeError::TooSoon(_)) => "too_soon",
        };
        self.resumes.get_or_create(&Resumed { by, outcome }).inc();
    }

    pub(crate) fn suspended(&self, result: &Result<Sandbox, SuspendError>) {
        let outcome = match result {
            Ok(sandbox) if sandbox.state == SandboxState::Suspended => "suspended",
            Ok(_) => "not_suspended",
            Err(SuspendError::Refused(_)) => "refused",
            Err(SuspendError::Unconfirmed(_)) => "unconfirmed",
            Err(SuspendError::Store(_)) => "store_failed",
            Err(SuspendError::NotFound) => "not_found",
            Err(SuspendError::Ephemeral | SuspendError::NotRunning(_)) => "not_suspendable",
        };
        self.suspensions.get_or_create(&Suspended { outcome }).inc();
    }
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Called {
    call: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct OfCall {
    call: &'static str,
}

/// Counts calls of the runtime. Clones share the counters.
#[derive(Clone)]
pub struct RuntimeMetrics {
    calls: Family<Called, Counter>,
    durations: Family<OfCall, Histogram, fn() -> Histogram>,
}

impl Default for RuntimeMetrics {
    fn default() -> Self {
        Self { calls: Family::default(), durations: Family::new_with_constructor(durations) }
    }
}

impl RuntimeMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("runtime_calls", "Calls of the runtime", self.calls.clone());
        registry.register(
            "runtime_call_duration_seconds",
            "Time of a call of the runtime",
            self.durations.clone(),
        );
    }

    fn measure<'a, T: 'a>(
        &'a self,
        call: &'static str,
        work: RuntimeFuture<'a, T>,
    ) -> RuntimeFuture<'a, T> {
        Box::pin(async move {
            let begun = Instant::now();
            let result = work.await;
            let outcome = match &result {
                Ok(_) => "ok",
                Err(RuntimeError::Refused { .. }) => "refused",
                Err(RuntimeError::TimedOut(_)) => "timed_out",
                Err(RuntimeError::NoAddress(_)) => "no_address",
                Err(RuntimeError::ForeignAddress(_)) => "foreign_address",
                Err(RuntimeError::Failed(_)) => "failed",
            };
            self.durations.get_or_create(&OfCall { call }).observe(begun.elapsed().as_secs_f64());
            self.calls.get_or_create(&Called { call, outcome }).inc();
            result
        })
    }
}

/// A runtime whose calls are counted.
pub(crate) struct Measured {
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) metrics: RuntimeMetrics,
}

impl Runtime for Measured {
    fn start<'a>(&'a self, sandbox: &'a Sandbox) -> RuntimeFuture<'a, IpAddr> {
        self.metrics.measure("start", self.runtime.start(sandbox))
    }

    fn suspend<'a>(&'a self, sandbox: &'a Sandbox) -> RuntimeFuture<'a, ()> {
        self.metrics.measure("suspend", self.runtime.suspend(sandbox))
    }

    fn resume<'a>(&'a self, sandbox: &'a Sandbox) -> RuntimeFuture<'a, IpAddr> {
        self.metrics.measure("resume", self.runtime.resume(sandbox))
    }

    fn stop<'a>(&'a self, sandbox: &'a Sandbox) -> RuntimeFuture<'a, ()> {
        self.metrics.measure("stop", self.runtime.stop(sandbox))
    }

    fn outlives_the_server(&self) -> bool {
        self.runtime.outlives_the_server()
    }

    fn shut_down(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        self.runtime.shut_down()
    }
}
