//! The audit log in SQL: one log of exposed ports, one of network policies, and one of operators' changes.
//!
//! Owners decide how many lines the first two have, so these have bounds: the lines of a sandbox, the lines of a
//! project, and their age. A change removes the lines beyond the first two bounds in its own transaction.
//! Operators' changes have a bound on all lines together, and on their age. [`prune`], which the server calls regularly, removes lines that are too old.

use sandgate_policy::egress::NetworkPolicy;

use super::{Database, Row, Session, events, rows, signed, values};
use crate::model::{
    EventDetail, ExposedPorts, PolicyDifference, PortAccess, Sandbox, SandboxId, Timestamp,
};
use crate::store::{AuditCursor, AuditPage, Author, Limits, Result, StoreError};

/// The lines of a page. A page takes at most 2 MiB, because the size of a line is bounded.
const PAGE: usize = 500;
/// The most lines that one transaction removes from a log. If a bound was lowered, the log shrinks in
/// several transactions, and no other write waits for all of them.
const REMOVED_AT_ONCE: u64 = 500;
/// The logs.
const LOGS: [&str; 3] = ["port_changes", "network_changes", "operator_changes"];
/// The most lines of operators' changes.
const OPERATOR_CHANGES: i64 = 100_000;

/// Records a change of the exposed ports and their flag, if there is one, in the log and as an event.
pub(super) fn record_ports(
    tx: &Session<'_>,
    after: &Sandbox,
    before: &(ExposedPorts, bool),
    principal: &str,
    limits: &Limits,
    now: Timestamp,
) -> Result<()> {
    if before.0 == after.exposed_ports && before.1 == after.allow_unauthenticated_access {
        return Ok(());
    }
    tx.execute(
        "INSERT INTO port_changes (at, sandbox_id, project_id, principal, ports_before, \
         public_before, ports_after, public_after) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        values![
            now.millis(),
            after.id.as_str(),
            after.project_id.as_str(),
            principal,
            &rows::ports_text(&before.0),
            before.1,
            &rows::ports_text(&after.exposed_ports),
            after.allow_unauthenticated_access,
        ],
    )?;
    remove_excess(tx, "port_changes", after, limits)?;
    let detail = EventDetail::PortsChanged {
        principal: principal.to_owned(),
        before: PortAccess::new(&before.0, before.1),
        after: PortAccess::new(&after.exposed_ports, after.allow_unauthenticated_access),
    };
    events::record(tx, after, &detail, limits, now)
}

/// Records a change of the network policy, if there is one, in the log and as an event.
pub(super) fn record_network(
    tx: &Session<'_>,
    after: &Sandbox,
    before: &NetworkPolicy,
    principal: &str,
    limits: &Limits,
    now: Timestamp,
) -> Result<()> {
    if *before == after.network_policy {
        return Ok(());
    }
    let difference = difference(before, &after.network_policy)?;
    tx.execute(
        "INSERT INTO network_changes (at, sandbox_id, project_id, principal, difference) \
         VALUES (?1, ?2, ?3, ?4, ?5)",
        values![
            now.millis(),
            after.id.as_str(),
            after.project_id.as_str(),
            principal,
            &text(&difference)?,
        ],
    )?;
    remove_excess(tx, "network_changes", after, limits)?;
    let detail = EventDetail::NetworkPolicyChanged { principal: principal.to_owned(), difference };
    events::record(tx, after, &detail, limits, now)
}

/// Records an operator's change. `subject` is an id, and `of` the id of what it belongs to.
pub(super) fn record_operator(
    tx: &Session<'_>,
    by: Author<'_>,
    action: &str,
    subject: &str,
    of: &str,
) -> Result<()> {
    tx.execute(
        "INSERT INTO operator_changes (at, principal, action, subject, belongs_to) \
         VALUES (?1, ?2, ?3, ?4, ?5)",
        values![by.at.millis(), by.principal, action, subject, of],
    )?;
    // The ids increase, so the oldest lines have the smallest ones.
    let sql = format!(
        "DELETE FROM operator_changes WHERE id IN (
             SELECT id FROM operator_changes
             WHERE id <= (SELECT max(id) FROM operator_changes) - ?1
             ORDER BY id LIMIT {REMOVED_AT_ONCE})"
    );
    tx.execute(&sql, values![OPERATOR_CHANGES])?;
    Ok(())
}

/// The difference of two policies, as the log stores it.
pub(in crate::store) fn difference_text(
    before: &NetworkPolicy,
    after: &NetworkPolicy,
) -> Result<String> {
    text(&difference(before, after)?)
}

fn difference(before: &NetworkPolicy, after: &NetworkPolicy) -> Result<PolicyDifference> {
    PolicyDifference::between(before, after).map_err(|error| StoreError::Corrupt(error.to_string()))
}

fn text(difference: &PolicyDifference) -> Result<String> {
    serde_json::to_string(difference).map_err(|error| StoreError::Corrupt(error.to_string()))
}

/// Removes the oldest lines of a sandbox and of its project beyond the limits.
fn remove_excess(tx: &Session<'_>, log: &str, of: &Sandbox, limits: &Limits) -> Result<()> {
    let bounds = [
        ("sandbox_id", of.id.as_str(), limits.audit_of_sandbox),
        ("project_id", of.project_id.as_str(), limits.audit_of_project),
    ];
    for (column, whose, most) in bounds {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let newest_excess: Option<i64> = tx.first(
            &format!("SELECT id FROM {log} WHERE {column} = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2"),
            values![whose, most],
            |row| row.get(0),
        )?;
        if let Some(id) = newest_excess {
            tx.execute(
                &format!(
                    "DELETE FROM {log} WHERE id IN (
                         SELECT id FROM {log} WHERE {column} = ?1 AND id <= ?2
                         ORDER BY id LIMIT {REMOVED_AT_ONCE})"
                ),
                values![whose, id],
            )?;
        }
    }
    Ok(())
}

/// Removes the oldest lines, if they are from before `end`. Returns whether there may be more such lines.
pub(super) fn prune(tx: &Session<'_>, end: Timestamp) -> Result<bool> {
    let mut more = false;
    for log in LOGS {
        let removed = tx.execute(
            &format!(
                "DELETE FROM {log} WHERE id IN (
                     SELECT id FROM
                         (SELECT id, at FROM {log} ORDER BY id LIMIT {REMOVED_AT_ONCE}) AS oldest
                     WHERE at < ?1)"
            ),
            values![end.millis()],
        )?;
        more |= removed == REMOVED_AT_ONCE;
    }
    Ok(more)
}

/// A page of a log. `parse` reads a row whose first column is the line's id; `columns` follow it.
pub(super) fn page<T>(
    database: &impl Database,
    log: &'static str,
    columns: &'static str,
    sandbox_id: Option<&SandboxId>,
    from: AuditCursor,
    parse: impl Fn(&Row<'_>) -> Result<T>,
) -> Result<AuditPage<T>> {
    let which = if sandbox_id.is_some() { "sandbox_id = ?3" } else { "CAST(?3 AS TEXT) IS NULL" };
    let sql =
        format!("SELECT id, {columns} FROM {log} WHERE id > ?1 AND {which} ORDER BY id LIMIT ?2");
    let page = signed(PAGE as u64)?;
    database.read(|tx| {
        let mut last = from;
        let whose = sandbox_id.map(SandboxId::as_str);
        let lines = tx.all(&sql, values![from.0, page, whose], |row| {
            last = AuditCursor(row.get(0)?);
            parse(row)
        })?;
        let next = (lines.len() == PAGE).then_some(last);
        Ok(AuditPage { lines, next })
    })
}
