//! Names of sandboxes. They are unique in the deployment. A freed name is held for its project for a while.

use super::{Session, values};
use crate::model::{Sandbox, SandboxName, Timestamp};
use crate::store::{NAME_HOLD, Result, StoreError};

/// Whether a project may claim a name.
pub(super) fn is_free(
    tx: &Session<'_>,
    name: &SandboxName,
    project_id: &str,
    now: Timestamp,
) -> Result<bool> {
    let taken = tx.first(
        "SELECT 1 WHERE EXISTS (SELECT 1 FROM sandboxes WHERE name = ?1)
             OR EXISTS (SELECT 1 FROM name_holds
                        WHERE name = ?1 AND project_id <> ?2 AND held_until > ?3)",
        values![name.as_str(), project_id, now.millis()],
        |_| Ok(()),
    )?;
    Ok(taken.is_none())
}

/// Ends the project's own hold on a free name. The caller stores the name.
///
/// # Errors
/// The name is not free.
pub(super) fn claim(
    tx: &Session<'_>,
    name: &SandboxName,
    project_id: &str,
    now: Timestamp,
) -> Result<()> {
    if !is_free(tx, name, project_id, now)? {
        return Err(StoreError::NameTaken(name.to_string()));
    }
    tx.execute(
        "DELETE FROM name_holds WHERE name = ?1 OR held_until <= ?2",
        values![name.as_str(), now.millis()],
    )?;
    Ok(())
}

/// Holds the name of a sandbox for its project, when the sandbox loses it. Only the newest `most` holds of a
/// project remain, so that a project can't take all names by renaming one sandbox again and again.
pub(super) fn release(
    tx: &Session<'_>,
    sandbox: &Sandbox,
    most: usize,
    now: Timestamp,
) -> Result<()> {
    if let Some(name) = &sandbox.name {
        let held_until = now.plus(NAME_HOLD).millis();
        tx.execute(
            "INSERT INTO name_holds VALUES (?1, ?2, ?3) ON CONFLICT (name) DO UPDATE \
             SET project_id = excluded.project_id, held_until = excluded.held_until",
            values![name.as_str(), sandbox.project_id.as_str(), held_until],
        )?;
        tx.execute(
            "DELETE FROM name_holds WHERE project_id = ?1 AND name NOT IN (
                 SELECT name FROM name_holds WHERE project_id = ?1
                 ORDER BY held_until DESC, name = ?2 DESC LIMIT ?3)",
            values![
                sandbox.project_id.as_str(),
                name.as_str(),
                i64::try_from(most).unwrap_or(i64::MAX)
            ],
        )?;
    }
    Ok(())
}
