//! Finds the projects and users that other tables refer to.

use rusqlite::{Connection, OptionalExtension as _};

use super::rows;
use crate::model::{Project, User};
use crate::store::{Record, Result, StoreError};

pub(super) fn find_project(tx: &Connection, id: &str) -> Result<Option<Project>> {
    let sql = format!("SELECT {} WHERE p.id = ?1", rows::PROJECT);
    Ok(tx.prepare_cached(&sql)?.query_row([id], rows::project).optional()?)
}

pub(super) fn require_project(tx: &Connection, id: &str) -> Result<Project> {
    find_project(tx, id)?.ok_or_else(|| StoreError::not_found(Record::Project, id))
}

pub(super) fn find_user(tx: &Connection, name_or_id: &str) -> Result<Option<User>> {
    Ok(tx
        .prepare_cached("SELECT id, name, created_at FROM users WHERE name = ?1 OR id = ?1")?
        .query_row([name_or_id], rows::user)
        .optional()?)
}
