//! Calls of the store.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::durations;
use crate::store::{Result, StoreError};

/// A kind of call of the store. Each has a bound of its own, see [`crate::db::Db`].
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum StoreCall {
    Read,
    Write,
    /// Claims, and what other replicas have applied.
    Coordination,
    /// Signs of life.
    Contact,
}

impl StoreCall {
    fn label(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Coordination => "coordination",
            Self::Contact => "contact",
        }
    }
}

fn outcome<T>(result: &Result<T>) -> &'static str {
    match result {
        Ok(_) => "ok",
        Err(StoreError::Busy(_)) => "busy",
        Err(StoreError::DiskFull) => "disk_full",
        Err(StoreError::Unavailable(_) | StoreError::Corrupt(_) | StoreError::Newer { .. }) => {
            "unavailable"
        }
        // The store works, and says no: a name is taken, or something does not exist.
        Err(_) => "refused",
    }
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Ended {
    call: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct OfCall {
    call: &'static str,
}

/// Counts calls of the store. Clones share the counters.
#[derive(Clone)]
pub struct StoreMetrics {
    calls: Family<Ended, Counter>,
    durations: Family<OfCall, Histogram, fn() -> Histogram>,
    waits: Family<OfCall, Histogram, fn() -> Histogram>,
}

impl Default for StoreMetrics {
    fn default() -> Self {
        Self {
            calls: Family::default(),
            durations: Family::new_with_constructor(durations),
            waits: Family::new_with_constructor(durations),
        }
    }
}

impl StoreMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("store_calls", "Calls of the store", self.calls.clone());
        registry.register(
            "store_call_duration_seconds",
            "Time of a call of the store, without its wait",
            self.durations.clone(),
        );
        registry.register(
            "store_wait_seconds",
            "Wait for the turn of a call of the store",
            self.waits.clone(),
        );
    }

    /// Counts a call that waited for its turn.
    pub(crate) fn waited(&self, call: StoreCall, time: Duration) {
        self.waits.get_or_create(&OfCall { call: call.label() }).observe(time.as_secs_f64());
    }

    /// Counts a call that has ended, `time` after its turn had come.
    pub(crate) fn ended<T>(&self, call: StoreCall, time: Duration, result: &Result<T>) {
        self.durations.get_or_create(&OfCall { call: call.label() }).observe(time.as_secs_f64());
        self.calls.get_or_create(&Ended { call: call.label(), outcome: outcome(result) }).inc();
    }

    /// Counts a write that got no turn.
    pub(crate) fn refused<T>(&self, call: StoreCall, result: &Result<T>) {
        if result.is_err() {
            self.calls.get_or_create(&Ended { call: call.label(), outcome: outcome(result) }).inc();
        }
    }
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Within {
    within: &'static str,
}

/// The credentials that are valid and expire soon, counted regularly.
#[derive(Clone, Default)]
pub(super) struct ExpiringCredentials(Family<Within, Gauge>);

impl ExpiringCredentials {
    /// What is counted: a label, and the time to the expiry.
    pub(crate) const PERIODS: [(&str, Duration); 2] =
        [("1d", Duration::from_secs(24 * 60 * 60)), ("7d", Duration::from_secs(7 * 24 * 60 * 60))];

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "credentials_expiring",
            "Valid credentials that expire within this time",
            self.0.clone(),
        );
    }

    pub(crate) fn set(&self, within: &'static str, count: u64) {
        self.0.get_or_create(&Within { within }).set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}
