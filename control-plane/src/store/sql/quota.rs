//! The quota of a project: the number and the stored bytes of its sandboxes. Triggers maintain the totals in
//! `project_use`, so every statement counts, and no write has to sum up a whole project.

use super::{Session, unsigned, values};
use crate::store::{Limits, Result, StoreError};

/// The totals of a project.
#[derive(Default)]
pub(super) struct Used {
    sandboxes: u64,
    bytes: u64,
}

/// The totals of a project in this transaction.
pub(super) fn used(tx: &Session<'_>, project_id: &str) -> Result<Used> {
    let used = tx.first(
        "SELECT sandboxes, bytes FROM project_use WHERE project_id = ?1",
        values![project_id],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    // A project that never had a sandbox has no row.
    let Some((sandboxes, bytes)) = used else { return Ok(Used::default()) };
    Ok(Used { sandboxes: unsigned(sandboxes)?, bytes: unsigned(bytes)? })
}

impl Used {
    /// Refuses a change that made a project grow beyond a bound. `self` has the totals before the change. A
    /// project that is already beyond a bound may change in any way that does not make it grow.
    ///
    /// # Errors
    /// [`StoreError::TooManySandboxes`] or [`StoreError::ProjectFull`]
    pub(super) fn check_growth(
        &self,
        tx: &Session<'_>,
        project_id: &str,
        limits: &Limits,
    ) -> Result<()> {
        let now = used(tx, project_id)?;
        if now.sandboxes > self.sandboxes && now.sandboxes > limits.sandboxes {
            return Err(StoreError::TooManySandboxes(limits.sandboxes));
        }
        if now.bytes > self.bytes && now.bytes > limits.bytes {
            return Err(StoreError::ProjectFull(limits.bytes));
        }
        Ok(())
    }
}
