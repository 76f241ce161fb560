//! The time of an event.

use std::time::Duration;

/// The time of an event.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Milliseconds of a clock that never goes back. Only differences have a meaning.
    pub ms: u64,
    /// Seconds since the Unix epoch.
    pub unix_seconds: u64,
}

/// Makes a clock that never goes back out of the wall clock, which may.
///
/// A wasm host has only the wall clock. If it is set back, cache entries would live longer by the
/// difference, so the difference is added to all later readings.
#[derive(Debug, Default)]
pub struct Clock {
    offset_ms: u64,
    last_ms: u64,
}

impl Clock {
    /// Converts a reading of the wall clock, the time since the Unix epoch.
    pub fn now(&mut self, wall: Duration) -> Now {
        let wall_ms = u64::try_from(wall.as_millis()).unwrap_or(u64::MAX);
        if wall_ms.saturating_add(self.offset_ms) < self.last_ms {
            self.offset_ms = self.last_ms.saturating_sub(wall_ms);
        }
        self.last_ms = wall_ms.saturating_add(self.offset_ms);
        Now { ms: self.last_ms, unix_seconds: wall.as_secs() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_clock_that_is_set_back_does_not_set_the_clock_back() {
        let mut clock = Clock::default();
        let before = clock.now(Duration::from_secs(1_000));
        let after = clock.now(Duration::from_secs(400));
        assert_eq!(after.ms, before.ms);
        assert_eq!(after.unix_seconds, 400);
        assert_eq!(clock.now(Duration::from_secs(401)).ms, before.ms + 1_000);
    }
}
