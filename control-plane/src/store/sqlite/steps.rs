//! The steps of a sandbox's life in SQLite: its state, its address, and the numbers that belong to them.

use std::net::IpAddr;

use rusqlite::{Transaction, params};
use sandgate_policy::egress::NetworkPolicy;
use sandgate_policy::gateway_api::SandboxState;

use super::sandboxes::{find, record, require};
use super::{SqliteStore, audit, names, rows, signed};
use crate::model::{ExposedPorts, Sandbox, SandboxId, Timestamp, Transition, state_name};
use crate::store::{Committed, Result, SYSTEM, Stepped};

impl SqliteStore {
    /// Takes a step, if the sandbox is in one of the states of `from`.
    pub(super) fn take_step(
        &self,
        tx: &Transaction<'_>,
        id: &SandboxId,
        from: &[SandboxState],
        step: Transition,
        now: Timestamp,
    ) -> Result<Option<Committed<Stepped>>> {
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
        let unconfirmed =
            address.is_none() && (before.unconfirmed || step == Transition::SuspendedUnconfirmed);
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
    }

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
            return Ok(Some(self.end(tx, &before, SYSTEM, now)?.value));
        }
        record(tx, &before.id, before.name.as_ref(), None)?;
        tx.execute(
            "UPDATE sandboxes SET state = 'suspended', address = NULL, unconfirmed = 1 WHERE id = ?1",
            [before.id.as_str()],
        )?;
        require(tx, &before.id).map(Some)
    }

    /// Ends a sandbox for ever.
    pub(super) fn end(
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
