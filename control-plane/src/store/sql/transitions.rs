//! Transitions of sandboxes in SQL: state, address, generation and placement.

use std::net::IpAddr;

use sandgate_policy::egress::NetworkPolicy;
use sandgate_policy::gateway_api::SandboxState;

use super::sandboxes::{find, record_change, require};
use super::{Session, audit, events, names, rows, signed, values};
use crate::model::{ExposedPorts, Sandbox, SandboxId, Timestamp, Transition};
use crate::store::{Committed, Limits, Result, SYSTEM, Transitioned};

/// Applies a transition, if the sandbox is in one of the states of `from`, and in its placement if there is one.
pub(super) fn apply(
    limits: &Limits,
    tx: &Session<'_>,
    id: &SandboxId,
    (from, within): (&[SandboxState], Option<u64>),
    transition: Transition,
    now: Timestamp,
) -> Result<Option<Committed<Transitioned>>> {
    let found = find(tx, &id.to_ref())?;
    let fits = |sandbox: &Sandbox| {
        from.contains(&sandbox.state) && within.is_none_or(|within| within == sandbox.placement)
    };
    let Some(before) = found.filter(fits) else {
        return Ok(None);
    };
    let (transition, address, displaced) = match transition {
        Transition::Running(address) => {
            let address = address.to_canonical();
            let displaced = displace(limits, tx, address, id, now)?;
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
    let text = address.map(|address| address.to_string());
    tx.execute(
        "UPDATE sandboxes SET state = ?2, address = ?3, generation = ?4, placement = ?5, \
         unconfirmed = ?6 WHERE id = ?1",
        values![
            id.as_str(),
            transition.state().as_str(),
            text.as_ref(),
            signed(generation)?,
            signed(placement)?,
            suspension_unconfirmed,
        ],
    )?;
    let sandbox = require(tx, id)?;
    events::record_transition(tx, &before, &sandbox, limits, now)?;
    Ok(Some(Committed { value: Transitioned { sandbox, displaced }, revision }))
}

/// Takes an address away from the sandbox that has it, because another one runs there now. With a name,
/// the first one is suspended, and the next request resumes it. Without a name it can't be resumed, so it
/// is terminated.
fn displace(
    limits: &Limits,
    tx: &Session<'_>,
    address: IpAddr,
    by: &SandboxId,
    now: Timestamp,
) -> Result<Option<Sandbox>> {
    let Some(before) = find_at(tx, address)?.filter(|sandbox| sandbox.id != *by) else {
        return Ok(None);
    };
    if before.name.is_none() {
        return Ok(Some(terminate(limits, tx, &before, SYSTEM, now)?.value));
    }
    record_change(tx, &before.id, before.name.as_ref(), None)?;
    tx.execute(
        "UPDATE sandboxes SET state = 'suspended', address = NULL, unconfirmed = 1 WHERE id = ?1",
        values![before.id.as_str()],
    )?;
    let after = require(tx, &before.id)?;
    events::record_transition(tx, &before, &after, limits, now)?;
    Ok(Some(after))
}

pub(super) fn terminate(
    limits: &Limits,
    tx: &Session<'_>,
    before: &Sandbox,
    principal: &str,
    now: Timestamp,
) -> Result<Committed<Sandbox>> {
    names::release(tx, before, limits.held_names, now)?;
    tx.execute(
        "UPDATE sandboxes SET state = 'terminated', address = NULL, name = NULL, unconfirmed = 0, \
         network = ?2 WHERE id = ?1",
        // The runtime needs `spec` to stop the sandbox. Nobody needs the network policy any more.
        values![before.id.as_str(), &rows::network_text(&NetworkPolicy::default())?],
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
    audit::record_ports(tx, &closed, &was, principal, limits, now)?;
    let revision = record_change(tx, &before.id, before.name.as_ref(), None)?;
    Ok(Committed { value: closed, revision })
}

/// The sandbox that has an address. There is at most one: the index `live_addresses` is unique.
fn find_at(tx: &Session<'_>, address: IpAddr) -> Result<Option<Sandbox>> {
    let sql = format!("SELECT {} WHERE s.address = ?1", rows::SANDBOX);
    tx.first(&sql, values![&address.to_string()], rows::sandbox)
}
