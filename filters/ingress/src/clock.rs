//! Time in a VM.

use sandgate_hostcalls as host;

/// A clock that never goes back, out of one that may.
///
/// The host has only the wall clock. If it is set back, entries of a cache would live on for as
/// long; so the step is taken out.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    offset: u64,
    last: u64,
}

/// One reading of the clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    /// Milliseconds; only differences mean anything.
    pub(crate) ms: u64,
    /// Seconds since the Unix epoch.
    pub(crate) unix_seconds: u64,
}

impl Clock {
    pub(crate) fn now(&mut self) -> Now {
        // A host without a clock leaves time standing; waits still end, by the host's own limits.
        let wall = host::wall_clock().unwrap_or_default();
        let wall_ms = u64::try_from(wall.as_millis()).unwrap_or(u64::MAX);
        if wall_ms.saturating_add(self.offset) < self.last {
            self.offset = self.last.saturating_sub(wall_ms);
        }
        self.last = wall_ms.saturating_add(self.offset);
        Now { ms: self.last, unix_seconds: wall.as_secs() }
    }
}
