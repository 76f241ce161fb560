//! How long the entries of a cache are valid, and what the change feed says about that.

use crate::ingress::config::Limits;

/// The lifetimes of the entries of one cache, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    /// The lifetime of a positive entry while the change feed works.
    pub positive: u64,
    /// The lifetime of a negative entry.
    pub negative: u64,
    /// The maximum lifetime of any entry while the change feed does not work.
    pub no_feed: u64,
    /// The lifetime of a positive entry while the control plane is unavailable.
    pub stale: u64,
}

impl Lifetimes {
    /// The lifetimes in the cache of sandboxes.
    #[must_use]
    pub fn of_sandboxes(limits: &Limits) -> Self {
        Self::new(limits, limits.stale_sandbox_ms)
    }

    /// The lifetimes in the cache of credentials.
    #[must_use]
    pub fn of_credentials(limits: &Limits) -> Self {
        Self::new(limits, limits.stale_credential_ms)
    }

    fn new(limits: &Limits, stale_ms: u32) -> Self {
        Self {
            positive: limits.positive_ttl_ms.into(),
            negative: limits.negative_ttl_ms.into(),
            no_feed: limits.no_feed_ttl_ms.into(),
            stale: stale_ms.into(),
        }
    }
}

/// What the change feed has reported: all changes between two times, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Reported {
    /// The results of lookups that were sent at this time or later are covered.
    pub since: u64,
    /// Changes after this time may be missing.
    pub until: u64,
}
