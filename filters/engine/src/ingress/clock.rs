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
#[derive(Debug)]
pub struct Clock {
    offset_ms: u64,
    last: Now,
}

impl Default for Clock {
    /// Before the first reading, everything that expires has expired.
    fn default() -> Self {
        Self { offset_ms: 0, last: Now { ms: 0, unix_seconds: u64::MAX } }
    }
}

impl Clock {
    /// Converts a reading of the wall clock, the time since the Unix epoch. If the clock can't be read, the last
    /// reading is used.
    pub fn now(&mut self, wall: Option<Duration>) -> Now {
        let Some(wall) = wall else { return self.last };
        let wall_ms = u64::try_from(wall.as_millis()).unwrap_or(u64::MAX);
        if wall_ms.saturating_add(self.offset_ms) < self.last.ms {
            self.offset_ms = self.last.ms.saturating_sub(wall_ms);
        }
        let ms = wall_ms.saturating_add(self.offset_ms);
        self.last = Now { ms, unix_seconds: wall.as_secs() };
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_clock_that_is_set_back_does_not_set_the_clock_back() {
        let mut clock = Clock::default();
        let before = clock.now(Some(Duration::from_secs(1_000)));
        let after = clock.now(Some(Duration::from_secs(400)));
        assert_eq!(after.ms, before.ms);
        assert_eq!(after.unix_seconds, 400);
        assert_eq!(clock.now(Some(Duration::from_secs(401))).ms, before.ms + 1_000);
    }

    #[test]
    fn while_the_wall_clock_cannot_be_read_the_last_reading_is_used() {
        let mut clock = Clock::default();
        assert_eq!(clock.now(None).unix_seconds, u64::MAX, "everything has expired");
        let before = clock.now(Some(Duration::from_secs(1_000)));
        let without = clock.now(None);
        assert_eq!((without.ms, without.unix_seconds), (before.ms, 1_000));
        assert_eq!(clock.now(Some(Duration::from_secs(1_001))).ms, before.ms + 1_000);
    }
}
