//! Sandboxes in SQL: creating, finding and listing them. [`super::patches`] and [`super::transitions`] change
//! them.

use std::ops::ControlFlow;

use sandgate_policy::egress::NetworkPolicy;
use sandgate_policy::gateway_api::{self, Change, SandboxState};
use sandgate_policy::ids::SandboxRef;

use super::{
    Database, Row, Session, Value, audit, changes, events, names, owners, patches, quota, rows,
    signed, transitions, unsigned, values,
};
use crate::model::{
    ExposedPorts, NetworkChange, NewSandbox, PortChange, Sandbox, SandboxId, SandboxName,
    SandboxPatch, Timestamp, Transition,
};
use crate::store::{
    AuditCursor, AuditPage, Committed, ListFilter, Page, Patched, Record, Result, Revision,
    Sandboxes, StoreError, Transitioned,
};

impl<D: Database> Sandboxes for D {
    fn create_sandbox(&self, new: &NewSandbox, now: Timestamp) -> Result<Committed<Sandbox>> {
        self.write(|tx| {
            owners::require_project(tx, new.project_id.as_str())?;
            if let Some(name) = &new.name {
                names::claim(tx, name, new.project_id.as_str(), now)?;
            }
            if !new.auto_resume && new.name.is_none() {
                return Err(StoreError::AutoResumeNeedsName);
            }
            let used = quota::used(tx, new.project_id.as_str())?;
            let revision = record_change(tx, &new.id, new.name.as_ref(), None)?;
            tx.execute(
                "INSERT INTO sandboxes (id, name, project_id, state, generation, exposed_ports, \
                 public, auto_resume, spec, created_at, network, placement) \
                 VALUES (?1, ?2, ?3, ?4, 0, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
                values![
                    new.id.as_str(),
                    new.name.as_ref().map(SandboxName::as_str),
                    new.project_id.as_str(),
                    SandboxState::Pending.as_str(),
                    &rows::ports_text(&new.exposed_ports),
                    new.allow_unauthenticated_access,
                    new.auto_resume,
                    &rows::spec_text(&new.spec),
                    now.millis(),
                    &rows::network_text(&new.network_policy)?,
                    signed(revision)?,
                ],
            )?;
            used.check_growth(tx, new.project_id.as_str(), self.limits())?;
            let created = require(tx, &new.id)?;
            let nothing = (ExposedPorts::default(), false);
            audit::record_ports(
                tx,
                &created,
                &nothing,
                new.principal.as_str(),
                self.limits(),
                now,
            )?;
            let default = NetworkPolicy::default();
            audit::record_network(
                tx,
                &created,
                &default,
                new.principal.as_str(),
                self.limits(),
                now,
            )?;
            Ok(Committed { value: created, revision })
        })
    }

    fn sandbox(&self, which: &SandboxRef) -> Result<Option<Sandbox>> {
        self.read(|tx| find(tx, which))
    }

    fn gateway_sandbox(&self, which: &SandboxRef) -> Result<Option<gateway_api::Sandbox>> {
        self.read(|tx| find_one(tx, rows::GATEWAY_SANDBOX, which, rows::gateway_sandbox))
    }

    fn list_sandboxes(&self, project_id: &str, filter: &ListFilter) -> Result<Page> {
        self.read(|tx| {
            let sql = format!(
                "SELECT {} WHERE s.project_id = ?1 AND s.sequence > ?2 AND s.state <> 'terminated' \
                 AND (CAST(?3 AS TEXT) IS NULL OR s.state = ?3) ORDER BY s.sequence LIMIT ?4",
                rows::SANDBOX
            );
            let state = filter.state.map(SandboxState::as_str);
            // One row more shows whether there are more sandboxes.
            let most = i64::try_from(filter.limit.max(1).saturating_add(1)).unwrap_or(i64::MAX);
            let (mut sandboxes, mut size, mut more) = (Vec::new(), 0, false);
            tx.each_row(&sql, values![project_id, filter.after, state, most], &mut |row| {
                size += rows::sandbox_size(row)?;
                // A page has at least one sandbox, however large, so that a client reaches the end of the list.
                more = (sandboxes.len() >= filter.limit || size > filter.size)
                    && !sandboxes.is_empty();
                if more {
                    return Ok(ControlFlow::Break(()));
                }
                sandboxes.push(rows::sandbox(row)?);
                Ok(ControlFlow::Continue(()))
            })?;
            Ok(Page { sandboxes, more })
        })
    }

    fn sandboxes_in(&self, state: SandboxState) -> Result<Vec<Sandbox>> {
        select(self, "s.state = ?1", values![state.as_str()])
    }

    fn unconfirmed_suspensions(&self) -> Result<Vec<Sandbox>> {
        select(self, "s.unconfirmed = 1", values![])
    }

    fn confirm_suspension(&self, id: &SandboxId, generation: u64) -> Result<()> {
        self.write_on_full_disk(|tx| {
            tx.execute(
                "UPDATE sandboxes SET unconfirmed = 0 WHERE id = ?1 AND generation = ?2",
                values![id.as_str(), signed(generation)?],
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
        let change =
            |tx: &Session<'_>| patches::apply(self.limits(), tx, id, patch, principal, now);
        // A patch that only removes access works on a full disk too.
        let only_removes_access = patch.may_only_remove_access()
            && self.sandbox(&id.to_ref())?.is_some_and(|before| patch.adds_no_port_to(&before));
        if only_removes_access { self.write_on_full_disk(change) } else { self.write(change) }
    }

    fn transition(
        &self,
        id: &SandboxId,
        from: &[SandboxState],
        within: Option<u64>,
        transition: Transition,
        now: Timestamp,
    ) -> Result<Option<Committed<Transitioned>>> {
        let change = |tx: &Session<'_>| {
            transitions::apply(self.limits(), tx, id, (from, within), transition, now)
        };
        // Anybody can cause resumes, so a resume must not use the reserve. It can wait for space.
        let resumes = transition == Transition::Pending && from.contains(&SandboxState::Suspended);
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
            transitions::terminate(self.limits(), tx, &before, principal, now).map(Some)
        })
    }

    fn remove_terminated(&self, id: &SandboxId) -> Result<()> {
        let removed = self.write_on_full_disk(|tx| {
            tx.execute(
                "DELETE FROM sandboxes WHERE id = ?1 AND state = 'terminated'",
                values![id.as_str()],
            )
        })?;
        if removed == 0 {
            return Ok(());
        }
        // Removing events takes access from nobody, so it must not use the reserve of a full disk. The upkeep removes the
        // events that remain.
        let mut more = Ok(true);
        while matches!(more, Ok(true)) {
            more = self.write(|tx| events::remove_some(tx, id));
        }
        match more {
            Ok(_) | Err(StoreError::DiskFull) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn name_is_free(&self, name: &SandboxName, project_id: &str, now: Timestamp) -> Result<bool> {
        self.read(|tx| names::is_free(tx, name, project_id, now))
    }

    fn port_changes(
        &self,
        sandbox_id: Option<&SandboxId>,
        from: AuditCursor,
    ) -> Result<AuditPage<PortChange>> {
        let columns = rows::PORT_CHANGE;
        audit::page(self, "port_changes", columns, sandbox_id, from, rows::port_change)
    }

    fn network_changes(
        &self,
        sandbox_id: Option<&SandboxId>,
        from: AuditCursor,
    ) -> Result<AuditPage<NetworkChange>> {
        let columns = rows::NETWORK_CHANGE;
        audit::page(self, "network_changes", columns, sandbox_id, from, rows::network_change)
    }

    fn restricted_sandboxes(&self) -> Result<u64> {
        self.read(|tx| {
            let count = tx.first(
                "SELECT count(*) FROM sandboxes WHERE network <> ?1 AND state <> 'terminated'",
                values![&rows::network_text(&NetworkPolicy::default())?],
                |row| row.get(0),
            )?;
            unsigned(count.unwrap_or_default())
        })
    }
}

/// All sandboxes for which an SQL condition holds, in the order of their creation.
fn select(database: &impl Database, condition: &str, values: &[Value<'_>]) -> Result<Vec<Sandbox>> {
    let sql = format!("SELECT {} WHERE {condition} ORDER BY s.sequence", rows::SANDBOX);
    database.read(|tx| tx.all(&sql, values, rows::sandbox))
}

pub(super) fn find(tx: &Session<'_>, which: &SandboxRef) -> Result<Option<Sandbox>> {
    find_one(tx, rows::SANDBOX, which, rows::sandbox)
}

/// Reads columns of the sandbox with an id or a name, if it is not terminated.
fn find_one<T>(
    tx: &Session<'_>,
    columns: &str,
    which: &SandboxRef,
    parse: impl Fn(&Row<'_>) -> Result<T>,
) -> Result<Option<T>> {
    let (column, text) = match which {
        SandboxRef::Id(id) => ("id", id.as_str()),
        SandboxRef::Name(name) => ("name", name.as_str()),
    };
    let sql = format!("SELECT {columns} WHERE s.{column} = ?1 AND s.state <> 'terminated'");
    tx.first(&sql, values![text], parse)
}

pub(super) fn require(tx: &Session<'_>, id: &SandboxId) -> Result<Sandbox> {
    find(tx, &id.to_ref())?.ok_or_else(|| StoreError::not_found(Record::Sandbox, id.as_str()))
}

/// Records a change of a sandbox. Gateways may have cached it by its id, its name or its former name.
pub(super) fn record_change(
    tx: &Session<'_>,
    id: &SandboxId,
    name: Option<&SandboxName>,
    name_before: Option<&SandboxName>,
) -> Result<Revision> {
    let mut refs = vec![id.to_string()];
    refs.extend(name.map(ToString::to_string));
    refs.extend(name_before.filter(|before| Some(*before) != name).map(ToString::to_string));
    changes::append(tx, &Change::Sandbox { refs })
}
