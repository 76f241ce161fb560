//! Credentials in SQL.

use sandgate_policy::gateway_api::{Change, Identity};
use sandgate_policy::ids::{OrganizationId, PrincipalId, ProjectId};

use super::owners::{find_user, require_project};
use super::{Session, audit, changes, rows, values};
use crate::model::{Credential, CredentialQuery, NewCredential, Owner, Timestamp};
use crate::store::{Author, Committed, Record, Result, StoreError};

pub(super) fn create(tx: &Session<'_>, new: &NewCredential, by: Author<'_>) -> Result<Credential> {
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
    let inserted = tx.execute(
        "INSERT INTO credentials VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, NULL) \
         ON CONFLICT (id) DO NOTHING",
        values![
            &new.id,
            new.hash.as_bytes(),
            project_id,
            user_id,
            session,
            new.name.as_ref(),
            by.at.millis(),
            new.expires_at.map(Timestamp::millis),
        ],
    )?;
    if inserted == 0 {
        return Err(StoreError::AlreadyExists { what: "a credential", name: new.id.clone() });
    }
    let credential = require(tx, &new.id)?;
    audit::record_operator(tx, by, "create key", &new.id, credential.owner.id())?;
    Ok(credential)
}

pub(super) fn all(tx: &Session<'_>) -> Result<Vec<Credential>> {
    let sql = format!("SELECT {} ORDER BY created_at, id", rows::CREDENTIAL);
    tx.all(&sql, values![], rows::credential)
}

pub(super) fn revoke(tx: &Session<'_>, id: &str, by: Author<'_>) -> Result<Committed<Credential>> {
    let credential = require(tx, id)?;
    if credential.revoked_at.is_some() {
        return Ok(Committed { value: credential, revision: changes::current(tx)? });
    }
    tx.execute(
        "UPDATE credentials SET revoked_at = ?2 WHERE id = ?1",
        values![id, by.at.millis()],
    )?;
    audit::record_operator(tx, by, "revoke key", id, credential.owner.id())?;
    let revision = changes::append(tx, &Change::Principal { id: principal(&credential)? })?;
    Ok(Committed { value: Credential { revoked_at: Some(by.at), ..credential }, revision })
}

pub(super) fn identify(
    tx: &Session<'_>,
    query: &CredentialQuery,
    now: Timestamp,
) -> Result<Option<Identity>> {
    let sql = format!("SELECT {} WHERE secret_hash = ?1", rows::CREDENTIAL);
    let found = tx.first(&sql, values![query.hash.as_bytes()], rows::credential)?;
    let Some(credential) = found else { return Ok(None) };
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
    tx: &Session<'_>,
    user_id: &str,
    query: &CredentialQuery,
) -> Result<Option<(OrganizationId, Vec<ProjectId>)>> {
    let (Some(organization_id), Some(project_id)) = (&query.organization_id, &query.project_id)
    else {
        return Ok(None);
    };
    let found = tx.first(
        "SELECT 1 FROM memberships m JOIN projects p ON p.id = m.project_id
         WHERE m.user_id = ?1 AND m.project_id = ?2 AND p.organization_id = ?3",
        values![user_id, project_id.as_str(), organization_id.as_str()],
        |_| Ok(()),
    )?;
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

fn require(tx: &Session<'_>, id: &str) -> Result<Credential> {
    let sql = format!("SELECT {} WHERE id = ?1", rows::CREDENTIAL);
    let found = tx.first(&sql, values![id], rows::credential)?;
    found.ok_or_else(|| StoreError::not_found(Record::Credential, id))
}
