//! The clock, and what is done in intervals. The tests of this crate replace both.

#[cfg(not(test))]
use std::time::Duration;

#[cfg(test)]
pub(crate) use crate::tests::envoy::{repeat, since_epoch};

/// Waits for `period`, calls `action`, and repeats this until `action` returns false.
///
/// # Errors
/// When the system has no thread for it.
#[cfg(not(test))]
pub(crate) fn repeat(
    name: &str,
    period: Duration,
    mut action: impl FnMut() -> bool + Send + 'static,
) -> std::io::Result<()> {
    let thread = std::thread::Builder::new().name(name.to_owned());
    thread.spawn(move || {
        loop {
            std::thread::sleep(period);
            if !action() {
                return;
            }
        }
    })?;
    Ok(())
}

/// The time since the Unix epoch. `None` if the clock is set to a time before it.
#[cfg(not(test))]
pub(crate) fn since_epoch() -> Option<Duration> {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()
}
