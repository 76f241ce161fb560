//! The bounds on what the sandboxes of one project take. Triggers keep the count (`project_use`), so
//! every statement is counted, and no write adds up a whole project.

use rusqlite::{OptionalExtension as _, Transaction};

use super::unsigned;
use crate::store::{Limits, Result, StoreError};

/// What the sandboxes of a project take.
#[derive(Default)]
pub(super) struct Used {
    sandboxes: u64,
    bytes: u64,
}

/// What the sandboxes of a project take now.
pub(super) fn used(tx: &Transaction<'_>, project_id: &str) -> Result<Used> {
    let used = tx
        .prepare_cached("SELECT sandboxes, bytes FROM project_use WHERE project_id = ?1")?
        .query_row([project_id], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    // A project that never had a sandbox has no row.
    let Some((sandboxes, bytes)) = used else { return Ok(Used::default()) };
    Ok(Used { sandboxes: unsigned(sandboxes)?, bytes: unsigned(bytes)? })
}

impl Used {
    /// Refuses a change that made a project grow beyond a bound. `self` is what the project took before
    /// the change. Whatever does not make the project larger is possible beyond the bounds too.
    pub(super) fn check_growth(
        &self,
        tx: &Transaction<'_>,
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
