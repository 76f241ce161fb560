//! What the sandboxes of one project take, and the bounds on it. Triggers keep the count
//! (`project_use`), so that no statement can forget it and no write has to add up a whole project.

use rusqlite::Transaction;

use super::{rows, unsigned};
use crate::model::Sandbox;
use crate::store::{Limits, Result, StoreError};

/// Bytes of a sandbox that its owner decides about, as the triggers count them.
pub(super) fn size(sandbox: &Sandbox) -> Result<usize> {
    Ok(rows::ports_text(&sandbox.exposed_ports).len()
        + rows::spec_text(&sandbox.spec).len()
        + rows::network_text(&sandbox.network)?.len())
}

/// Refuses what a new sandbox brought a project over its bounds with. Call it when the row is there.
pub(super) fn check(tx: &Transaction<'_>, project_id: &str, limits: &Limits) -> Result<()> {
    if used(tx, project_id)?.0 > limits.sandboxes {
        return Err(StoreError::TooManySandboxes(limits.sandboxes));
    }
    check_bytes(tx, project_id, limits)
}

/// The same for a sandbox that grew.
pub(super) fn check_bytes(tx: &Transaction<'_>, project_id: &str, limits: &Limits) -> Result<()> {
    if used(tx, project_id)?.1 > limits.bytes {
        return Err(StoreError::ProjectFull(limits.bytes));
    }
    Ok(())
}

/// Sandboxes of a project, and their bytes.
fn used(tx: &Transaction<'_>, project_id: &str) -> Result<(u64, u64)> {
    let (sandboxes, bytes) = tx
        .prepare_cached("SELECT sandboxes, bytes FROM project_use WHERE project_id = ?1")?
        .query_row([project_id], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok((unsigned(sandboxes)?, unsigned(bytes)?))
}
