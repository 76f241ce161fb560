//! Patches of sandboxes in SQL.

use serde_json::Value;

use super::sandboxes::{record_change, require};
use super::{Session, audit, changes, names, quota, rows, signed, values};
use crate::model::{Sandbox, SandboxId, SandboxName, SandboxPatch, Timestamp};
use crate::store::{Committed, Limits, Patched, Result, SPEC_MAX, StoreError, ports_made_public};

pub(super) fn apply(
    limits: &Limits,
    tx: &Session<'_>,
    id: &SandboxId,
    patch: &SandboxPatch,
    principal: &str,
    now: Timestamp,
) -> Result<Committed<Patched>> {
    let before = require(tx, id)?;
    let mut after = with_patch(&before, patch)?;
    if after == before {
        // Nothing changed. The caller waits for the newest revision, because an earlier identical patch may be
        // committed but not yet applied by all gateways.
        let revision = changes::current(tx)?;
        return Ok(Committed { value: Patched { before, after }, revision });
    }
    let made_public = ports_made_public(&before, &after);
    if patch.keep_private && !made_public.is_empty() {
        return Err(StoreError::WouldMakePublic(made_public));
    }
    if after.name != before.name {
        names::release(tx, &before, limits.held_names, now)?;
        if let Some(name) = &after.name {
            names::claim(tx, name, after.project_id.as_str(), now)?;
        }
    }
    let revision = record_change(tx, id, after.name.as_ref(), before.name.as_ref())?;
    if after.network_policy != before.network_policy {
        after.network_policy_revision = revision;
    }
    let used = quota::used(tx, after.project_id.as_str())?;
    tx.execute(
        "UPDATE sandboxes SET name = ?2, exposed_ports = ?3, public = ?4, auto_resume = ?5, \
         spec = ?6, network = ?7, network_revision = ?8 WHERE id = ?1",
        values![
            id.as_str(),
            after.name.as_ref().map(SandboxName::as_str),
            &rows::ports_text(&after.exposed_ports),
            after.allow_unauthenticated_access,
            after.auto_resume,
            &rows::spec_text(&after.spec),
            &rows::network_text(&after.network_policy)?,
            signed(after.network_policy_revision)?,
        ],
    )?;
    used.check_growth(tx, after.project_id.as_str(), limits)?;
    let ports_before = (before.exposed_ports.clone(), before.allow_unauthenticated_access);
    audit::record_ports(tx, &after, &ports_before, principal, limits, now)?;
    audit::record_network(tx, &after, &before.network_policy, principal, limits, now)?;
    Ok(Committed { value: Patched { before, after }, revision })
}

fn with_patch(before: &Sandbox, patch: &SandboxPatch) -> Result<Sandbox> {
    let mut after = before.clone();
    if let Some(name) = &patch.name {
        after.name = Some(name.clone());
    }
    if let Some(ports) = &patch.exposed_ports {
        after.exposed_ports = ports.clone();
    }
    after.allow_unauthenticated_access =
        patch.allow_unauthenticated_access.unwrap_or(before.allow_unauthenticated_access);
    after.auto_resume = patch.auto_resume.unwrap_or(before.auto_resume);
    if !after.auto_resume && after.name.is_none() {
        return Err(StoreError::AutoResumeNeedsName);
    }
    if let Some(network) = &patch.network_policy {
        after.network_policy = network.clone();
    }
    for (key, value) in &patch.spec {
        match value {
            Value::Null => after.spec.remove(key),
            value => after.spec.insert(key.clone(), value.clone()),
        };
    }
    if !patch.spec.is_empty() && rows::spec_text(&after.spec).len() > SPEC_MAX {
        return Err(StoreError::SpecTooLarge(SPEC_MAX));
    }
    Ok(after)
}
