//! The bounds in time and number, and their checks.

use serde::Deserialize;

use crate::ingress::concurrency::Shares;

use super::error::{ConfigError, wrong};

/// Bounds in time (milliseconds) and number. The defaults are the design's.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// How long what exists is believed while the change feed works.
    pub positive_ttl_ms: u32,
    /// How long what does not exist is believed.
    pub negative_ttl_ms: u32,
    /// How long anything is believed while the change feed does not work.
    pub no_feed_ttl_ms: u32,
    /// How old a known route may be while the control plane can't be asked.
    pub stale_sandbox_ms: u32,
    /// How old a known credential may be while the control plane can't be asked.
    pub stale_credential_ms: u32,
    /// Entries in each of the two caches of a VM.
    pub cache_entries: usize,
    /// Requests of a VM that wait for an answer.
    pub waiters: usize,
    /// Those of them that wait for a resume of one project's sandboxes: the rest is for others.
    pub resume_waiters_per_project: usize,
    /// Lookups of a VM under way at once.
    pub lookups_in_flight: usize,
    /// Requests to one sandbox in flight through one VM (one Envoy worker thread), of all classes
    /// together; [`Shares`] says how many of them each class may have.
    pub requests_per_sandbox: usize,
    /// When all slots for anonymous requests are taken, a stream on which nothing was sent for this
    /// long gives way to a new request.
    pub anonymous_silence_ms: u32,
    /// How long a request waits for a resume when its client does not say.
    pub resume_wait_ms: u32,
    /// How often requests to public ports may resume one sandbox: once in this time.
    pub public_resume_interval_ms: u32,
    /// How long the change feed's call is held by the control plane.
    pub feed_wait_ms: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            positive_ttl_ms: 30_000,
            negative_ttl_ms: 2_000,
            no_feed_ttl_ms: 5_000,
            stale_sandbox_ms: 300_000,
            stale_credential_ms: 60_000,
            cache_entries: 10_000,
            waiters: 1_000,
            resume_waiters_per_project: 250,
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
        ("limits.resume_waiters_per_project", limits.resume_waiters_per_project == 0),
        ("limits.lookups_in_flight", limits.lookups_in_flight == 0),
    ];
    if let Some((field, _)) = zero.into_iter().find(|(_, is_zero)| *is_zero) {
        return Err(wrong(field, "is 0; nothing would pass"));
    }
    if limits.feed_wait_ms == 0 {
        let problem = "is 0; the control plane would be asked for changes without a pause";
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
