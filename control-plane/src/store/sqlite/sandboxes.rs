//! Sandboxes in SQLite: their life, their names, and the audit log of their ports and policies.

use std::net::IpAddr;

use rusqlite::{Row, Transaction, params};
use sandgate_policy::egress::NetworkPolicy;
use sandgate_policy::gateway::{self, Change, SandboxState};
use sandgate_policy::host::SandboxRef;
use serde_json::Value;

use super::{SqliteStore, audit, changes, names, principals, quota, rows, signed, unsigned};
use crate::model::{
    ExposedPorts, NetworkChange, NewSandbox, PortChange, Sandbox, SandboxId, SandboxName,
    SandboxPatch, Timestamp, Transition, state_name,
};
use crate::store::{
    AuditPage, AuditPlace, Committed, ListFilter, Page, Patched, Result, Revision, SPEC_MAX,
    SYSTEM, Sandboxes, Stepped, StoreError, opened_ports,
};

impl Sandboxes for SqliteStore {
    fn create_sandbox(&self, new: &NewSandbox, now: Timestamp) -> Result<Committed<Sandbox>> {
        self.write(|tx| {
            principals::require_project(tx, &new.project_id)?;
            if let Some(name) = &new.name {
                names::take(tx, name, &new.project_id, now)?;
            }
            if !new.auto_resume && new.name.is_none() {
                return Err(StoreError::AutoResumeNeedsName);
            }
            let used = quota::used(tx, &new.project_id)?;
            let revision = record(tx, &new.id, new.name.as_ref(), None)?;
            tx.execute(
                "INSERT INTO sandboxes (id, name, project_id, state, generation, exposed_ports, \
                 public, auto_resume, spec, created_at, network, placement) \
                 VALUES (?1, ?2, ?3, ?4, 0, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
                params![
                    new.id.as_str(),
                    new.name.as_ref().map(SandboxName::as_str),
                    new.project_id,
                    state_name(SandboxState::Pending),
                    rows::ports_text(&new.exposed_ports),
                    new.allow_unauthenticated_access,
                    new.auto_resume,
                    rows::spec_text(&new.spec),
                    now.millis(),
                    rows::network_text(&new.network)?,
                    signed(revision)?,
                ],
            )?;
            used.check_growth(tx, &new.project_id, &self.limits)?;
            let made = require(tx, &new.id)?;
            let nothing = (ExposedPorts::default(), false);
            audit::record(tx, &made, &nothing, &new.principal, &self.limits, now)?;
            let default = NetworkPolicy::default();
            audit::record_network(tx, &made, &default, &new.principal, &self.limits, now)?;
            Ok(Committed { value: made, revision })
        })
    }

    fn sandbox(&self, which: &SandboxRef) -> Result<Option<Sandbox>> {
        self.read(|tx| find(tx, which))
    }

    fn gateway_sandbox(&self, which: &SandboxRef) -> Result<Option<gateway::Sandbox>> {
        self.read(|tx| find_one(tx, rows::GATEWAY_SANDBOX, which, rows::gateway_sandbox))
    }

    fn list_sandboxes(&self, project_id: &str, filter: &ListFilter) -> Result<Page> {
        self.read(|tx| {
            let sql = format!(
                "SELECT {} WHERE s.project_id = ?1 AND s.sequence > ?2 AND s.state <> 'terminated' \
                 AND (?3 IS NULL OR s.state = ?3) ORDER BY s.sequence",
                rows::SANDBOX
            );
            let state = filter.state.map(state_name);
            let mut query = tx.prepare_cached(&sql)?;
            let mut found = query.query(params![project_id, filter.after, state])?;
            let (mut sandboxes, mut size) = (Vec::new(), 0);
            while let Some(row) = found.next()? {
                size += rows::sandbox_size(row)?;
                // The first one is shown however large it is: a list must get on.
                let full = sandboxes.len() >= filter.limit || size > filter.size;
                if full && !sandboxes.is_empty() {
                    return Ok(Page { sandboxes, more: true });
                }
                sandboxes.push(rows::sandbox(row)?);
            }
            Ok(Page { sandboxes, more: false })
        })
    }

    fn sandboxes_in(&self, state: SandboxState) -> Result<Vec<Sandbox>> {
        self.read(|tx| {
            let sql = format!("SELECT {} WHERE s.state = ?1 ORDER BY s.sequence", rows::SANDBOX);
            let mut query = tx.prepare_cached(&sql)?;
            query.query_and_then([state_name(state)], rows::sandbox)?.collect()
        })
    }

    fn unconfirmed_suspensions(&self) -> Result<Vec<Sandbox>> {
        self.read(|tx| {
            let sql =
                format!("SELECT {} WHERE s.unconfirmed = 1 ORDER BY s.sequence", rows::SANDBOX);
            let mut query = tx.prepare_cached(&sql)?;
            query.query_and_then([], rows::sandbox)?.collect()
        })
    }

    fn confirm_suspension(&self, id: &SandboxId, generation: u64) -> Result<()> {
        self.write_on_full_disk(|tx| {
            tx.execute(
                "UPDATE sandboxes SET unconfirmed = 0 WHERE id = ?1 AND generation = ?2",
                params![id.as_str(), signed(generation)?],
            )?;
            Ok(())
        })
    }

    fn patch_sandbox(
        &self,
        id: &SandboxId,
        patch: &SandboxPatch,
        principal: &str,
        now: Timestamp,
    ) -> Result<Committed<Patched>> {
        let change = |tx: &Transaction<'_>| {
            let before = require(tx, id)?;
            let mut after = patched(&before, patch)?;
            if after == before {
                let revision = changes::current(tx)?;
                return Ok(Committed { value: Patched { before, after }, revision });
            }
            let opened = opened_ports(&before, &after);
            if patch.keep_private && !opened.is_empty() {
                return Err(StoreError::WouldOpen(opened));
            }
            if after.name != before.name {
                names::release(tx, &before, self.limits.held_names, now)?;
                if let Some(name) = &after.name {
                    names::take(tx, name, &after.project_id, now)?;
                }
            }
            let revision = record(tx, id, after.name.as_ref(), before.name.as_ref())?;
            if after.network != before.network {
                after.network_revision = revision;
            }
            let used = quota::used(tx, &after.project_id)?;
            tx.execute(
                "UPDATE sandboxes SET name = ?2, exposed_ports = ?3, public = ?4, auto_resume = ?5, \
                 spec = ?6, network = ?7, network_revision = ?8 WHERE id = ?1",
                params![
                    id.as_str(),
                    after.name.as_ref().map(SandboxName::as_str),
                    rows::ports_text(&after.exposed_ports),
                    after.allow_unauthenticated_access,
                    after.auto_resume,
                    rows::spec_text(&after.spec),
                    rows::network_text(&after.network)?,
                    signed(after.network_revision)?,
                ],
            )?;
            used.check_growth(tx, &after.project_id, &self.limits)?;
            let was = (before.exposed_ports.clone(), before.allow_unauthenticated_access);
            audit::record(tx, &after, &was, principal, &self.limits, now)?;
            audit::record_network(tx, &after, &before.network, principal, &self.limits, now)?;
            Ok(Committed { value: Patched { before, after }, revision })
        };
        // Closing a port works on a full disk too.
        let closes = patch.only_closes()
            && self.sandbox(&id.to_ref())?.is_some_and(|before| patch.closes_ports_of(&before));
        if closes { self.write_on_full_disk(change) } else { self.write(change) }
    }

    fn transition(
        &self,
        id: &SandboxId,
        from: &[SandboxState],
        step: Transition,
        now: Timestamp,
    ) -> Result<Option<Committed<Stepped>>> {
        let change = |tx: &Transaction<'_>| {
            let found = find(tx, &id.to_ref())?;
            let Some(before) = found.filter(|sandbox| from.contains(&sandbox.state)) else {
                return Ok(None);
            };
            let (step, address, displaced) = match step {
                Transition::Running(address) => {
                    let address = address.to_canonical();
                    let displaced = self.displace(tx, address, id, now)?;
                    (step, Some(address), displaced)
                }
                Transition::RunningStill(address) => {
                    let address = address.to_canonical();
                    if at(tx, address)?.is_none_or(|other| other.id == *id) {
                        (step, Some(address), None)
                    } else {
                        (Transition::SuspendedUnconfirmed, None, None)
                    }
                }
                Transition::Pending
                | Transition::Suspending
                | Transition::Suspended
                | Transition::SuspendedUnconfirmed => (step, None, None),
            };
            let revision = record(tx, id, before.name.as_ref(), None)?;
            // The revision is unique and grows, which is what both numbers must do.
            let generation = if address.is_some() { revision } else { before.generation };
            let moved = before.address.is_some() && address.is_some();
            let begins = step == Transition::Pending || moved;
            let placement = if begins { revision } else { before.placement };
            // A sandbox that runs is not suspended. A resume that fails confirms nothing.
            let unconfirmed = address.is_none()
                && (before.unconfirmed || step == Transition::SuspendedUnconfirmed);
            tx.execute(
                "UPDATE sandboxes SET state = ?2, address = ?3, generation = ?4, placement = ?5, \
                 unconfirmed = ?6 WHERE id = ?1",
                params![
                    id.as_str(),
                    state_name(step.state()),
                    address.map(|address| address.to_string()),
                    signed(generation)?,
                    signed(placement)?,
                    unconfirmed,
                ],
            )?;
            let sandbox = require(tx, id)?;
            Ok(Some(Committed { value: Stepped { sandbox, displaced }, revision }))
        };
        // Whoever may reach a sandbox can resume it, and what resumes it can wait for room.
        let resumes = step == Transition::Pending && from.contains(&SandboxState::Suspended);
        if resumes { self.write(change) } else { self.write_on_full_disk(change) }
    }

    fn terminate_sandbox(
        &self,
        id: &SandboxId,
        principal: &str,
        now: Timestamp,
    ) -> Result<Option<Committed<Sandbox>>> {
        self.write_on_full_disk(|tx| {
            let Some(before) = find(tx, &id.to_ref())? else { return Ok(None) };
            self.terminate(tx, &before, principal, now).map(Some)
        })
    }

    fn remove_terminated(&self, id: &SandboxId) -> Result<()> {
        self.write_on_full_disk(|tx| {
            tx.execute(
                "DELETE FROM sandboxes WHERE id = ?1 AND state = 'terminated'",
                [id.as_str()],
            )?;
            Ok(())
        })
    }

    fn name_is_free(&self, name: &SandboxName, project_id: &str, now: Timestamp) -> Result<bool> {
        self.read(|tx| names::is_free(tx, name, project_id, now))
    }

    fn port_changes(
        &self,
        sandbox_id: Option<&SandboxId>,
        from: AuditPlace,
    ) -> Result<AuditPage<PortChange>> {
        let columns = rows::PORT_CHANGE;
        self.audit_page("port_changes", columns, sandbox_id, from, rows::port_change)
    }

    fn network_changes(
        &self,
        sandbox_id: Option<&SandboxId>,
        from: AuditPlace,
    ) -> Result<AuditPage<NetworkChange>> {
        let columns = rows::NETWORK_CHANGE;
        self.audit_page("network_changes", columns, sandbox_id, from, rows::network_change)
    }

    fn restricted_sandboxes(&self) -> Result<u64> {
        self.read(|tx| {
            let count = tx.query_row(
                "SELECT count(*) FROM sandboxes WHERE network <> ?1 AND state <> 'terminated'",
                [rows::network_text(&NetworkPolicy::default())?],
                |row| row.get(0),
            )?;
            unsigned(count)
        })
    }
}

impl SqliteStore {
    /// Takes an address away from the sandbox that has it: whoever is told that another one runs there
    /// knows that this one does not. With a name it is suspended, and the next request resumes it;
    /// without one nothing ever could, so it is gone.
    fn displace(
        &self,
        tx: &Transaction<'_>,
        address: IpAddr,
        by: &SandboxId,
        now: Timestamp,
    ) -> Result<Option<Sandbox>> {
        let Some(before) = at(tx, address)?.filter(|sandbox| sandbox.id != *by) else {
            return Ok(None);
        };
        if before.name.is_none() {
            return Ok(Some(self.terminate(tx, &before, SYSTEM, now)?.value));
        }
        record(tx, &before.id, before.name.as_ref(), None)?;
        tx.execute(
            "UPDATE sandboxes SET state = 'suspended', address = NULL, unconfirmed = 1 WHERE id = ?1",
            [before.id.as_str()],
        )?;
        require(tx, &before.id).map(Some)
    }

    fn terminate(
        &self,
        tx: &Transaction<'_>,
        before: &Sandbox,
        principal: &str,
        now: Timestamp,
    ) -> Result<Committed<Sandbox>> {
        names::release(tx, before, self.limits.held_names, now)?;
        tx.execute(
            "UPDATE sandboxes SET state = 'terminated', address = NULL, name = NULL, unconfirmed = 0, \
             network = ?2 WHERE id = ?1",
            // The runtime needs the kept fields to stop it, and nobody needs the policy any more.
            params![before.id.as_str(), rows::network_text(&NetworkPolicy::default())?],
        )?;
        let closed = Sandbox {
            state: SandboxState::Terminated,
            address: None,
            exposed_ports: ExposedPorts::default(),
            allow_unauthenticated_access: false,
            unconfirmed: false,
            ..before.clone()
        };
        let was = (before.exposed_ports.clone(), before.allow_unauthenticated_access);
        audit::record(tx, &closed, &was, principal, &self.limits, now)?;
        let revision = record(tx, &before.id, before.name.as_ref(), None)?;
        Ok(Committed { value: closed, revision })
    }
}

/// The sandbox that has an address. There is one at most: the index `live_addresses` is unique.
fn at(tx: &Transaction<'_>, address: IpAddr) -> Result<Option<Sandbox>> {
    let sql = format!("SELECT {} WHERE s.address = ?1", rows::SANDBOX);
    let mut statement = tx.prepare_cached(&sql)?;
    let mut found = statement.query([address.to_string()])?;
    found.next()?.map(rows::sandbox).transpose()
}

fn find(tx: &Transaction<'_>, which: &SandboxRef) -> Result<Option<Sandbox>> {
    find_one(tx, rows::SANDBOX, which, rows::sandbox)
}

/// Reads these columns of the sandbox of an id or a name, if it is not terminated.
fn find_one<T>(
    tx: &Transaction<'_>,
    columns: &str,
    which: &SandboxRef,
    parse: impl Fn(&Row<'_>) -> Result<T>,
) -> Result<Option<T>> {
    let (column, text) = match which {
        SandboxRef::Id(id) => ("id", id),
        SandboxRef::Name(name) => ("name", name),
    };
    let sql = format!("SELECT {columns} WHERE s.{column} = ?1 AND s.state <> 'terminated'");
    let mut statement = tx.prepare_cached(&sql)?;
    let mut found = statement.query([text])?;
    found.next()?.map(parse).transpose()
}

fn require(tx: &Transaction<'_>, id: &SandboxId) -> Result<Sandbox> {
    find(tx, &id.to_ref())?.ok_or_else(|| StoreError::not_found("sandbox", id.as_str()))
}

fn patched(before: &Sandbox, patch: &SandboxPatch) -> Result<Sandbox> {
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
    if let Some(network) = &patch.network {
        after.network = network.clone();
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

/// Whoever knows the sandbox, by its id, its name or the name that it had, must forget it.
fn record(
    tx: &Transaction<'_>,
    id: &SandboxId,
    name: Option<&SandboxName>,
    name_before: Option<&SandboxName>,
) -> Result<Revision> {
    let mut refs = vec![id.to_string()];
    refs.extend(name.map(ToString::to_string));
    refs.extend(name_before.filter(|before| Some(*before) != name).map(ToString::to_string));
    changes::record(tx, &Change::Sandbox { refs })
}
