//! The audit log: who changed when what can be reached, and where a sandbox may connect to.

use rusqlite::{Transaction, params};
use sandgate_policy::egress::NetworkPolicy;

use super::rows;
use crate::model::{ExposedPorts, Sandbox, Timestamp};
use crate::store::Result;

/// Writes down that what can be reached changed, if it did.
pub(super) fn record(
    tx: &Transaction<'_>,
    now_is: &Sandbox,
    was: &(ExposedPorts, bool),
    principal: &str,
    now: Timestamp,
) -> Result<()> {
    if was.0 == now_is.exposed_ports && was.1 == now_is.allow_unauthenticated_access {
        return Ok(());
    }
    tx.execute(
        "INSERT INTO port_changes (at, sandbox_id, project_id, principal, ports_before, \
         public_before, ports_after, public_after) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            now.millis(),
            now_is.id.as_str(),
            now_is.project_id,
            principal,
            rows::ports_text(&was.0),
            was.1,
            rows::ports_text(&now_is.exposed_ports),
            now_is.allow_unauthenticated_access,
        ],
    )?;
    Ok(())
}

/// Writes down that a network policy changed, if it did.
pub(super) fn record_network(
    tx: &Transaction<'_>,
    now_is: &Sandbox,
    was: &NetworkPolicy,
    principal: &str,
    now: Timestamp,
) -> Result<()> {
    if *was == now_is.network {
        return Ok(());
    }
    tx.execute(
        "INSERT INTO network_changes (at, sandbox_id, project_id, principal, network_before, \
         network_after) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            now.millis(),
            now_is.id.as_str(),
            now_is.project_id,
            principal,
            rows::network_text(was)?,
            rows::network_text(&now_is.network)?,
        ],
    )?;
    Ok(())
}
