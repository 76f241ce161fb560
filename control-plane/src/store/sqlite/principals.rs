//! Organizations, projects, users and their memberships in SQLite. [`super::credentials`] has the queries of
//! credentials.

use rusqlite::{OptionalExtension, Transaction, params};
use sandgate_policy::gateway_api::{Change, Identity};

use super::owners::{find_project, find_user, require_project};
use super::{SqliteStore, changes, credentials, rows};
use crate::model::{
    Credential, CredentialQuery, Member, NewCredential, Organization, Project, Timestamp, User,
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
        self.write(|tx| credentials::create(tx, new, now))
    }

    fn credentials(&self) -> Result<Vec<Credential>> {
        self.read(credentials::all)
    }

    fn revoke_credential(&self, id: &str, now: Timestamp) -> Result<Committed<Credential>> {
        self.write_on_full_disk(|tx| credentials::revoke(tx, id, now))
    }

    fn identify(&self, query: &CredentialQuery, now: Timestamp) -> Result<Option<Identity>> {
        self.read(|tx| credentials::identify(tx, query, now))
    }
}

fn require_member(tx: &Transaction<'_>, user: &User, project_id: &str) -> Result<Member> {
    let sql = format!("SELECT {} WHERE u.id = ?1 AND m.project_id = ?2", rows::MEMBER);
    let found = tx.query_row(&sql, [&user.id, project_id], rows::member).optional()?;
    found.ok_or_else(|| StoreError::not_found(Record::Membership, project_id))
}

fn name_error(error: rusqlite::Error, what: &'static str, name: &str) -> StoreError {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::ConstraintViolation) => {
            StoreError::AlreadyExists { what, name: name.to_owned() }
        }
        _ => error.into(),
    }
}
