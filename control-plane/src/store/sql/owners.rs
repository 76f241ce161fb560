//! Finds the projects and users that other tables refer to.

use super::{Session, rows, values};
use crate::model::{Project, User};
use crate::store::{Record, Result, StoreError};

pub(super) fn find_project(tx: &Session<'_>, id: &str) -> Result<Option<Project>> {
    let sql = format!("SELECT {} WHERE p.id = ?1", rows::PROJECT);
    tx.first(&sql, values![id], rows::project)
}

pub(super) fn require_project(tx: &Session<'_>, id: &str) -> Result<Project> {
    find_project(tx, id)?.ok_or_else(|| StoreError::not_found(Record::Project, id))
}

pub(super) fn find_user(tx: &Session<'_>, name_or_id: &str) -> Result<Option<User>> {
    let sql = "SELECT id, name, created_at FROM users WHERE name = ?1 OR id = ?1";
    tx.first(sql, values![name_or_id], rows::user)
}
