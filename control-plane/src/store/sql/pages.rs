//! Pages of organizations, projects, members and credentials.

use super::{Session, rows, values};
use crate::model::{Credential, Member, Organization, Project};
use crate::store::{Place, Result};

/// The values to compare `(created_at, id)` with. Every entry is after the default.
fn place(after: Option<&Place>) -> (i64, &str) {
    after.map_or((i64::MIN, ""), |place| (place.created_at.millis(), place.id.as_str()))
}

fn rows_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

pub(super) fn organizations(
    tx: &Session<'_>,
    after: Option<&Place>,
    limit: usize,
) -> Result<Vec<Organization>> {
    let (time, id) = place(after);
    let sql = "SELECT id, name, created_at FROM organizations WHERE (created_at, id) > (?1, ?2) \
        ORDER BY created_at, id LIMIT ?3";
    tx.all(sql, values![time, id, rows_of(limit)], rows::organization)
}

pub(super) fn projects(
    tx: &Session<'_>,
    after: Option<&Place>,
    organization_id: Option<&str>,
    limit: usize,
) -> Result<Vec<Project>> {
    let (time, id) = place(after);
    let sql = format!(
        "SELECT {} WHERE (p.created_at, p.id) > (?1, ?2) \
         AND (CAST(?3 AS TEXT) IS NULL OR p.organization_id = ?3) \
         ORDER BY p.created_at, p.id LIMIT ?4",
        rows::PROJECT
    );
    tx.all(&sql, values![time, id, organization_id, rows_of(limit)], rows::project)
}

pub(super) fn members(
    tx: &Session<'_>,
    after: Option<(&str, &str)>,
    project_id: Option<&str>,
    limit: usize,
) -> Result<Vec<Member>> {
    let (project, user) = after.unwrap_or_default();
    let sql = format!(
        "SELECT {} WHERE (m.project_id, m.user_id) > (?1, ?2) \
         AND (CAST(?3 AS TEXT) IS NULL OR m.project_id = ?3) \
         ORDER BY m.project_id, m.user_id LIMIT ?4",
        rows::MEMBER
    );
    tx.all(&sql, values![project, user, project_id, rows_of(limit)], rows::member)
}

pub(super) fn credentials(
    tx: &Session<'_>,
    after: Option<&Place>,
    project_id: Option<&str>,
    limit: usize,
) -> Result<Vec<Credential>> {
    let (time, id) = place(after);
    let sql = format!(
        "SELECT {} WHERE (created_at, id) > (?1, ?2) \
         AND (CAST(?3 AS TEXT) IS NULL OR project_id = ?3) \
         ORDER BY created_at, id LIMIT ?4",
        rows::CREDENTIAL
    );
    tx.all(&sql, values![time, id, project_id, rows_of(limit)], rows::credential)
}
