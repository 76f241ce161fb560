//! The clock, which the tests of this crate replace.

#[cfg(not(test))]
use std::time::Duration;

use sandgate_engine::ingress::Now;

#[cfg(test)]
pub(crate) use crate::tests::envoy::{monotonic, since_epoch};

/// The time of an event. Its milliseconds never go back, and are those of one clock for all threads: they share cache
/// entries.
pub(crate) fn now() -> Now {
    Now {
        // Not 0: the engine compares times with the millisecond before an event.
        ms: u64::try_from(monotonic().as_millis()).unwrap_or(u64::MAX).saturating_add(1),
        // If the clock can't be read, everything has expired.
        unix_seconds: unix_seconds().unwrap_or(u64::MAX),
    }
}

/// The time of a clock that never goes back. Only differences have a meaning.
#[cfg(not(test))]
fn monotonic() -> Duration {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed()
}

/// The seconds since the Unix epoch. `None` if the clock can't be read, or is set to a time before the epoch.
///
/// The kernel's coarse clock is a few milliseconds late, and costs a fraction of the exact one on virtual machines. Each
/// request reads it.
#[cfg(not(test))]
fn unix_seconds() -> Option<u64> {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_REALTIME_COARSE).ok()?;
    u64::try_from(time.tv_sec()).ok()
}

#[cfg(test)]
fn unix_seconds() -> Option<u64> {
    since_epoch().map(|time| time.as_secs())
}

/// The time since the Unix epoch. `None` if the clock is set to a time before it.
#[cfg(not(test))]
pub(crate) fn since_epoch() -> Option<Duration> {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()
}
