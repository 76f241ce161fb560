//! Credentials in SQLite.

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use sandgate_policy::gateway_api::{Change, Identity};
use sandgate_policy::ids::{OrganizationId, PrincipalId, ProjectId};

use super::owners::{find_user, require_project};
use super::{changes, rows};
use crate::model::{Credential, CredentialQuery, NewCredential, Owner, Timestamp};
use crate::store::{Committed, Record, Result, StoreError};

pub(super) fn create(
    tx: &Transaction<'_>,
    new: &NewCredential,
    now: Timestamp,
) -> Result<Credential> {
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
    require(tx, &new.id)
}

pub(super) fn all(tx: &Transaction<'_>) -> Result<Vec<Credential>> {
    let sql = format!("SELECT {} ORDER BY created_at, id", rows::CREDENTIAL);
    let mut query = tx.prepare_cached(&sql)?;
    query.query_and_then([], rows::credential)?.collect()
}

pub(super) fn revoke(
    tx: &Transaction<'_>,
    id: &str,
    now: Timestamp,
) -> Result<Committed<Credential>> {
    let credential = require(tx, id)?;
    if credential.revoked_at.is_some() {
        return Ok(Committed { value: credential, revision: changes::current(tx)? });
    }
    tx.execute("UPDATE credentials SET revoked_at = ?2 WHERE id = ?1", params![id, now.millis()])?;
    let revision = changes::append(tx, &Change::Principal { id: principal(&credential)? })?;
    Ok(Committed { value: Credential { revoked_at: Some(now), ..credential }, revision })
}

pub(super) fn identify(
    tx: &Transaction<'_>,
    query: &CredentialQuery,
    now: Timestamp,
) -> Result<Option<Identity>> {
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

fn require(tx: &Transaction<'_>, id: &str) -> Result<Credential> {
    let sql = format!("SELECT {} WHERE id = ?1", rows::CREDENTIAL);
    let mut statement = tx.prepare_cached(&sql)?;
    let mut found = statement.query([id])?;
    let row = found.next()?.ok_or_else(|| StoreError::not_found(Record::Credential, id))?;
    rows::credential(row)
}
