//! The clock of this process, compared with the database's.
//!
//! Credentials expire, names are held, and lines of the audit log are removed by the clock of the server that works on
//! them. A server whose clock is ahead would remove what all servers still need, and one whose clock is behind would
//! accept expired credentials. So a process whose clock differs uses the store for nothing until it agrees again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::model::Timestamp;
use crate::store::{Result, StoreError};

const MAX_DIFFERENCE: Duration = Duration::from_secs(5);

/// The current time of the database in milliseconds.
pub(super) const NOW: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";

/// Whether the clocks agreed at the last comparison.
#[derive(Default)]
pub(super) struct Clock {
    differs: AtomicBool,
}

impl Clock {
    /// Compares the clocks. The database read its own between `before` and `after`.
    pub(super) fn compare(
        &self,
        before: Timestamp,
        database: Timestamp,
        after: Timestamp,
    ) -> Result<()> {
        let agrees =
            before.minus(MAX_DIFFERENCE) <= database && database <= after.plus(MAX_DIFFERENCE);
        self.differs.store(!agrees, Ordering::Relaxed);
        self.require_agreement()
    }

    pub(super) fn require_agreement(&self) -> Result<()> {
        if self.differs.load(Ordering::Relaxed) {
            let reason = "the clock of this machine differs from the database's by more than 5 s; set one of them right";
            return Err(StoreError::Unavailable(reason.into()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_answer_is_no_difference() {
        let at = Timestamp::from_millis;
        for (before, database, after, agrees) in [
            (100_000, 100_000, 100_000, true),
            (100_000, 95_000, 100_000, true),
            (100_000, 94_999, 100_000, false),
            (100_000, 105_001, 100_000, false),
            (100_000, 105_001, 130_000, true),
            (100_000, 94_999, 130_000, false),
        ] {
            let compared = Clock::default().compare(at(before), at(database), at(after));
            assert_eq!(compared.is_ok(), agrees, "{database} between {before} and {after}");
        }
    }
}
