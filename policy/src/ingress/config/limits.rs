//! The limits in time and number, and their checks.

use serde::Deserialize;

use crate::ingress::concurrency::Shares;

use super::error::{ConfigError, wrong};

/// The limits of one VM (one Envoy worker thread). Times are in milliseconds.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// The lifetime of a positive cache entry while the change feed works.
    pub positive_ttl_ms: u32,
    /// The lifetime of a negative cache entry.
    pub negative_ttl_ms: u32,
    /// The maximum lifetime of any cache entry while the change feed does not work.
    pub no_feed_ttl_ms: u32,
    /// The maximum age of a cached sandbox that is used while the control plane is unavailable.
    pub stale_sandbox_ms: u32,
    /// The maximum age of a cached credential that is used while the control plane is unavailable.
    pub stale_credential_ms: u32,
    /// The maximum number of entries in each of the two caches.
    pub cache_entries: usize,
    /// The maximum number of requests that wait for lookups.
    pub waiters: usize,
    /// The maximum number of requests that wait for a resume.
    pub resume_waiters: usize,
    /// The maximum number of lookups in flight in each queue: requests, live streams, resumes.
    pub lookups_in_flight: usize,
    /// The maximum number of requests in flight to one sandbox, of all classes together. [`Shares`] divides them among the
    /// classes.
    pub requests_per_sandbox: usize,
    /// If all slots for anonymous requests are taken, a stream on which nothing was sent for this time may be evicted
    /// in favour of a new request.
    pub anonymous_silence_ms: u32,
    /// The time for which a request waits for a resume, unless its client sets another time.
    pub resume_wait_ms: u32,
    /// The minimum interval between two resumes of one sandbox by requests to public ports.
    pub public_resume_interval_ms: u32,
    /// The time for which the control plane holds a call of the change feed if nothing changes.
    pub feed_wait_ms: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            positive_ttl_ms: 600_000,
            negative_ttl_ms: 2_000,
            no_feed_ttl_ms: 5_000,
            stale_sandbox_ms: 300_000,
            stale_credential_ms: 60_000,
            cache_entries: 20_000,
            waiters: 1_000,
            resume_waiters: 1_000,
            lookups_in_flight: 256,
            requests_per_sandbox: 1_000,
            anonymous_silence_ms: 60_000,
            resume_wait_ms: 30_000,
            public_resume_interval_ms: 10_000,
            feed_wait_ms: 25_000,
        }
    }
}

pub(super) fn check_limits(limits: &Limits) -> Result<(), ConfigError> {
    let zero = [
        ("limits.cache_entries", limits.cache_entries == 0),
        ("limits.waiters", limits.waiters == 0),
        ("limits.resume_waiters", limits.resume_waiters == 0),
        ("limits.lookups_in_flight", limits.lookups_in_flight == 0),
    ];
    if let Some((field, _)) = zero.into_iter().find(|(_, is_zero)| *is_zero) {
        return Err(wrong(field, "is 0; expected at least 1"));
    }
    if limits.feed_wait_ms == 0 {
        let problem =
            "is 0; expected at least 1, or the filter would poll the change feed without a pause";
        return Err(wrong("limits.feed_wait_ms", problem));
    }
    Ok(())
}

pub(super) fn check_shares(limits: &Limits) -> Result<Shares, ConfigError> {
    let slots = limits.requests_per_sandbox;
    Shares::of(slots).ok_or_else(|| {
        let least = Shares::MIN;
        let problem = format!(
            "is {slots}; expected at least {least}, one for each class of requests: management, authenticated, anonymous"
        );
        wrong("limits.requests_per_sandbox", problem)
    })
}
