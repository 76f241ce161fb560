//! Organizations, projects, users and credentials in SQLite.

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use sandgate_policy::gateway_api::{Change, Identity};
use sandgate_policy::ids::{OrganizationId, PrincipalId, ProjectId};

use super::{SqliteStore, changes, rows};
use crate::model::{
    Credential, CredentialQuery, Member, NewCredential, Organization, Owner, Project, Timestamp,
    User,
};
use crate::store::{Committed, Principals, Record, Result, StoreError};

impl Principals for SqliteStore {
    fn create_organization(&self, id: &str, name: &str, now: Timestamp) -> Result<Organization> {
        self.write(|tx| {
            tx.execute(
                "INSERT INTO organizations VALUES (?1, ?2, ?3)",
                params![id, name, now.millis()],
            )
            .map_err(|error| name_error(error, "an organization", name))?;
            Ok(Organization { id: id.to_owned(), name: name.to_owned(), created_at: now })
        })
    }

    fn organizations(&self) -> Result<Vec<Organization>> {
        self.read(|tx| {
            let mut query = tx.prepare_cached(
                "SELECT id, name, created_at FROM organizations ORDER BY created_at, id",
            )?;
            Ok(query.query_map([], rows::organization)?.collect::<rusqlite::Result<_>>()?)
        })
    }

    fn create_project(
        &self,
        id: &str,
        organization_id: &str,
        name: &str,
        now: Timestamp,
    ) -> Result<Project> {
        self.write(|tx| {
            let found: Option<String> = tx
                .query_row("SELECT id FROM organizations WHERE id = ?1", [organization_id], |r| {
                    r.get(0)
                })
                .optional()?;
            found.ok_or_else(|| StoreError::not_found(Record::Organization, organization_id))?;
            tx.execute(
                "INSERT INTO projects VALUES (?1, ?2, ?3, ?4)",
                params![id, organization_id, name, now.millis()],
            )
            .map_err(|error| name_error(error, "a project", name))?;
            require_project(tx, id)
        })
    }

    fn projects(&self) -> Result<Vec<Project>> {
        self.read(|tx| {
            let sql = format!("SELECT {} ORDER BY p.created_at, p.id", rows::PROJECT);
            let mut query = tx.prepare_cached(&sql)?;
            Ok(query.query_map([], rows::project)?.collect::<rusqlite::Result<_>>()?)
        })
    }

    fn project(&self, id: &str) -> Result<Option<Project>> {
        self.read(|tx| find_project(tx, id))
    }

    fn add_member(
        &self,
        new_user_id: &str,
        user: &str,
        project_id: &str,
        now: Timestamp,
    ) -> Result<Committed<Member>> {
        self.write(|tx| {
            require_project(tx, project_id)?;
            let user = match find_user(tx, user)? {
                Some(user) => user,
                None => {
                    let row = params![new_user_id, user, now.millis()];
                    tx.execute("INSERT INTO users VALUES (?1, ?2, ?3)", row)?;
                    User { id: new_user_id.to_owned(), name: user.to_owned(), created_at: now }
                }
            };
            let inserted = tx.execute(
                "INSERT INTO memberships VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
                params![user.id, project_id, now.millis()],
            )?;
            let revision = match inserted {
                0 => changes::current(tx)?,
                _ => changes::append(tx, &Change::Principal { id: rows::parse_id(&user.id)? })?,
            };
            Ok(Committed { value: require_member(tx, &user, project_id)?, revision })
        })
    }

    fn remove_member(&self, user: &str, project_id: &str) -> Result<Committed<Member>> {
        self.write_on_full_disk(|tx| {
            let user =
                find_user(tx, user)?.ok_or_else(|| StoreError::not_found(Record::User, user))?;
            let member = require_member(tx, &user, project_id)?;
            tx.execute(
                "DELETE FROM memberships WHERE user_id = ?1 AND project_id = ?2",
                params![user.id, project_id],
            )?;
            let revision =
                changes::append(tx, &Change::Principal { id: rows::parse_id(&user.id)? })?;
            Ok(Committed { value: member, revision })
        })
    }

    fn members(&self, project_id: Option<&str>) -> Result<Vec<Member>> {
        self.read(|tx| {
            let sql = format!(
                "SELECT {} WHERE ?1 IS NULL OR m.project_id = ?1 ORDER BY m.project_id, u.name",
                rows::MEMBER
            );
            let mut query = tx.prepare_cached(&sql)?;
            Ok(query.query_map([project_id], rows::member)?.collect::<rusqlite::Result<_>>()?)
        })
    }

    fn user(&self, name_or_id: &str) -> Result<Option<User>> {
        self.read(|tx| find_user(tx, name_or_id))
    }

    fn create_credential(&self, new: &NewCredential, now: Timestamp) -> Result<Credential> {
        self.write(|tx| {
            let (project_id, user_id, session) = match &new.owner {
                Owner::Project { project_id } => {
                    require_project(tx, project_id)?;
                    (Some(project_id), None, false)
                }
                Owner::User { user_id, session } => {
                    let found = find_user(tx, user_id)?;
                    found.ok_or_else(|| StoreError::not_found(Record::User, user_id))?;
                    (None, Some(user_id), *session)
                }
            };
            tx.execute(
                "INSERT INTO credentials VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, NULL)",
                params![
                    new.id,
                    new.hash.as_bytes(),
                    project_id,
                    user_id,
                    session,
                    new.name,
                    now.millis(),
                    new.expires_at.map(Timestamp::millis),
                ],
            )?;
            require_credential(tx, &new.id)
        })
    }

    fn credentials(&self) -> Result<Vec<Credential>> {
        self.read(|tx| {
            let sql = format!("SELECT {} ORDER BY created_at, id", rows::CREDENTIAL);
            let mut query = tx.prepare_cached(&sql)?;
            query.query_and_then([], rows::credential)?.collect()
        })
    }

    fn revoke_credential(&self, id: &str, now: Timestamp) -> Result<Committed<Credential>> {
        self.write_on_full_disk(|tx| {
            let credential = require_credential(tx, id)?;
            if credential.revoked_at.is_some() {
                return Ok(Committed { value: credential, revision: changes::current(tx)? });
            }
            tx.execute(
                "UPDATE credentials SET revoked_at = ?2 WHERE id = ?1",
                params![id, now.millis()],
            )?;
            let revision = changes::append(tx, &Change::Principal { id: principal(&credential)? })?;
            Ok(Committed { value: Credential { revoked_at: Some(now), ..credential }, revision })
        })
    }

    fn identify(&self, query: &CredentialQuery, now: Timestamp) -> Result<Option<Identity>> {
        self.read(|tx| {
            let sql = format!("SELECT {} WHERE secret_hash = ?1", rows::CREDENTIAL);
            let mut statement = tx.prepare_cached(&sql)?;
            let mut found = statement.query([query.hash.as_bytes()])?;
            let Some(row) = found.next()? else { return Ok(None) };
            let credential = rows::credential(row)?;
            let expired = credential.expires_at.is_some_and(|end| end <= now);
            if expired || credential.revoked_at.is_some() || credential.owner.kind() != query.kind {
                return Ok(None);
            }
            let (organization_id, project_ids) = match &credential.owner {
                Owner::Project { project_id } => {
                    let project = require_project(tx, project_id)?;
                    (rows::parse_id(&project.organization_id)?, vec![rows::parse_id(&project.id)?])
                }
                Owner::User { user_id, .. } => match claimed_context(tx, user_id, query)? {
                    Some(context) => context,
                    None => return Ok(None),
                },
            };
            Ok(Some(Identity {
                principal: principal(&credential)?,
                organization_id,
                project_ids,
                expires_at: credential.expires_at.map(Timestamp::seconds),
            }))
        })
    }
}

/// The organization that the query claims, and the claimed project if the user is a member of it. `None` if the query
/// claims nothing.
fn claimed_context(
    tx: &Connection,
    user_id: &str,
    query: &CredentialQuery,
) -> Result<Option<(OrganizationId, Vec<ProjectId>)>> {
    let (Some(organization_id), Some(project_id)) = (&query.organization_id, &query.project_id)
    else {
        return Ok(None);
    };
    let found = tx
        .prepare_cached(
            "SELECT 1 FROM memberships m JOIN projects p ON p.id = m.project_id
             WHERE m.user_id = ?1 AND m.project_id = ?2 AND p.organization_id = ?3",
        )?
        .query_row(params![user_id, project_id.as_str(), organization_id.as_str()], |_| Ok(()))
        .optional()?;
    let project_ids = found.map(|()| project_id.clone());
    Ok(Some((organization_id.clone(), project_ids.into_iter().collect())))
}

/// The id that identities and the change feed use for a credential: its own for an API key, and the user's for a
/// token or session.
fn principal(credential: &Credential) -> Result<PrincipalId> {
    rows::parse_id(match &credential.owner {
        Owner::Project { .. } => &credential.id,
        Owner::User { user_id, .. } => user_id,
    })
}

fn find_project(tx: &Connection, id: &str) -> Result<Option<Project>> {
    let sql = format!("SELECT {} WHERE p.id = ?1", rows::PROJECT);
    Ok(tx.prepare_cached(&sql)?.query_row([id], rows::project).optional()?)
}

pub(super) fn require_project(tx: &Connection, id: &str) -> Result<Project> {
    find_project(tx, id)?.ok_or_else(|| StoreError::not_found(Record::Project, id))
}

fn find_user(tx: &Connection, name_or_id: &str) -> Result<Option<User>> {
    Ok(tx
        .prepare_cached("SELECT id, name, created_at FROM users WHERE name = ?1 OR id = ?1")?
        .query_row([name_or_id], rows::user)
        .optional()?)
}

fn require_member(tx: &Transaction<'_>, user: &User, project_id: &str) -> Result<Member> {
    let sql = format!("SELECT {} WHERE u.id = ?1 AND m.project_id = ?2", rows::MEMBER);
    let found = tx.query_row(&sql, [&user.id, project_id], rows::member).optional()?;
    found.ok_or_else(|| StoreError::not_found(Record::Membership, project_id))
}

fn require_credential(tx: &Transaction<'_>, id: &str) -> Result<Credential> {
    let sql = format!("SELECT {} WHERE id = ?1", rows::CREDENTIAL);
    let mut statement = tx.prepare_cached(&sql)?;
    let mut found = statement.query([id])?;
    let row = found.next()?.ok_or_else(|| StoreError::not_found(Record::Credential, id))?;
    rows::credential(row)
}

fn name_error(error: rusqlite::Error, what: &'static str, name: &str) -> StoreError {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::ConstraintViolation) => {
            StoreError::AlreadyExists { what, name: name.to_owned() }
        }
        _ => error.into(),
    }
}
