//! Transitions of sandboxes in SQLite: state, address, generation and placement.

use std::net::IpAddr;

use rusqlite::{Transaction, params};
use sandgate_policy::egress::NetworkPolicy;
use sandgate_policy::gateway_api::SandboxState;

use super::sandboxes::{find, record_change, require};
use super::{SqliteStore, audit, names, rows, signed};
use crate::model::{ExposedPorts, Sandbox, SandboxId, Timestamp, Transition};
use crate::store::{Committed, Result, SYSTEM, Transitioned};

impl SqliteStore {
    /// Applies a transition, if the sandbox is in one of the states of `from`.
    pub(super) fn apply_transition(
        &self,
        tx: &Transaction<'_>,
        id: &SandboxId,
        from: &[SandboxState],
        transition: Transition,
        now: Timestamp,
    ) -> Result<Option<Committed<Transitioned>>> {
        let found = find(tx, &id.to_ref())?;
        let Some(before) = found.filter(|sandbox| from.contains(&sandbox.state)) else {
            return Ok(None);
        };
        let (transition, address, displaced) = match transition {
            Transition::Running(address) => {
                let address = address.to_canonical();
                let displaced = self.displace(tx, address, id, now)?;
                (transition, Some(address), displaced)
            }
            Transition::StillRunning(address) => {
                let address = address.to_canonical();
                if find_at(tx, address)?.is_none_or(|other| other.id == *id) {
                    (transition, Some(address), None)
                } else {
                    (Transition::SuspendedUnconfirmed, None, None)
                }
            }
            Transition::Pending
            | Transition::Suspending
            | Transition::Suspended
            | Transition::SuspendedUnconfirmed => (transition, None, None),
        };
        let revision = record_change(tx, id, before.name.as_ref(), None)?;
        // Both numbers must be unique and growing, which the revision is.
        let generation = if address.is_some() { revision } else { before.generation };
        let moved = before.address.is_some() && address.is_some();
        let begins = transition == Transition::Pending || moved;
        let placement = if begins { revision } else { before.placement };
        // A running sandbox has no suspension to confirm. A failed resume confirms nothing.
        let suspension_unconfirmed = address.is_none()
            && (before.suspension_unconfirmed || transition == Transition::SuspendedUnconfirmed);
        tx.execute(
            "UPDATE sandboxes SET state = ?2, address = ?3, generation = ?4, placement = ?5, \
             unconfirmed = ?6 WHERE id = ?1",
            params![
                id.as_str(),
                transition.state().as_str(),
                address.map(|address| address.to_string()),
                signed(generation)?,
                signed(placement)?,
                suspension_unconfirmed,
            ],
        )?;
        let sandbox = require(tx, id)?;
        Ok(Some(Committed { value: Transitioned { sandbox, displaced }, revision }))
    }

    /// Takes an address away from the sandbox that has it, because another one runs there now. With a name,
    /// the first one is suspended, and the next request resumes it. Without a name it can't be resumed, so it
    /// is terminated.
    fn displace(
        &self,
        tx: &Transaction<'_>,
        address: IpAddr,
        by: &SandboxId,
        now: Timestamp,
    ) -> Result<Option<Sandbox>> {
        let Some(before) = find_at(tx, address)?.filter(|sandbox| sandbox.id != *by) else {
            return Ok(None);
        };
        if before.name.is_none() {
            return Ok(Some(self.terminate(tx, &before, SYSTEM, now)?.value));
        }
        record_change(tx, &before.id, before.name.as_ref(), None)?;
        tx.execute(
            "UPDATE sandboxes SET state = 'suspended', address = NULL, unconfirmed = 1 WHERE id = ?1",
            [before.id.as_str()],
        )?;
        require(tx, &before.id).map(Some)
    }

    pub(super) fn terminate(
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
            // The runtime needs `spec` to stop the sandbox. Nobody needs the network policy any more.
            params![before.id.as_str(), rows::network_text(&NetworkPolicy::default())?],
        )?;
        let closed = Sandbox {
            state: SandboxState::Terminated,
            address: None,
            exposed_ports: ExposedPorts::default(),
            allow_unauthenticated_access: false,
            suspension_unconfirmed: false,
            ..before.clone()
        };
        let was = (before.exposed_ports.clone(), before.allow_unauthenticated_access);
        audit::record_ports(tx, &closed, &was, principal, &self.limits, now)?;
        let revision = record_change(tx, &before.id, before.name.as_ref(), None)?;
        Ok(Committed { value: closed, revision })
    }
}

/// The sandbox that has an address. There is at most one: the index `live_addresses` is unique.
fn find_at(tx: &Transaction<'_>, address: IpAddr) -> Result<Option<Sandbox>> {
    let sql = format!("SELECT {} WHERE s.address = ?1", rows::SANDBOX);
    let mut statement = tx.prepare_cached(&sql)?;
    let mut found = statement.query([address.to_string()])?;
    found.next()?.map(rows::sandbox).transpose()
}
