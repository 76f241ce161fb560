//! The events of sandboxes in SQL.
//!
//! Each class of events ([`EventClass`](crate::model::EventClass)) has bounds of its own: the events of a sandbox, and the events of a project. A
//! transaction that adds events removes the ones beyond the bounds. A sandbox that sends to a million destinations, or a
//! stranger who tries all ports, adds at most [`Limits::denials_of_period`] events in a period, and all further denials are the
//! count of one more. So neither can replace the denials of the recent past.

mod recorder;

use std::collections::BTreeSet;

use self::recorder::{Recorder, remove_excess_of_project};
use super::{Database, Session, rows, signed, values};
use crate::model::{EventDetail, Sandbox, SandboxId, Timestamp};
use crate::store::{EventPage, Events, Limits, ReportedDenials, Result};

/// The most events that one transaction removes because of one bound.
const REMOVED_AT_ONCE: u64 = 500;

impl<D: Database> Events for D {
    fn record_denials(&self, reported: &[ReportedDenials], now: Timestamp) -> Result<()> {
        // A report must not use the space that is reserved for changes that remove access.
        self.write(|tx| {
            // The bound of a project costs more than all else, so it is applied once, and only if its events have become more.
            let mut grown = BTreeSet::new();
            for ReportedDenials { sandbox_id, inbound, outbound } in reported {
                let Some(recorder) = Recorder::new(tx, self.limits(), sandbox_id, now)? else {
                    continue;
                };
                for class in recorder.add_denials(inbound, outbound)? {
                    recorder.remove_excess(class)?;
                    grown.insert((recorder.project_id().to_owned(), class));
                }
            }
            for (project_id, class) in grown {
                remove_excess_of_project(tx, self.limits(), &project_id, class)?;
            }
            Ok(())
        })
    }

    fn events(&self, id: &SandboxId, before: Option<u64>, limit: usize) -> Result<EventPage> {
        let before = before.map_or(Ok(i64::MAX), signed)?;
        // One row more shows whether there are older events.
        let most = signed(u64::try_from(limit.saturating_add(1)).unwrap_or(u64::MAX))?;
        self.read(|tx| {
            let mut events = tx.all(
                "SELECT number, at, last_at, count, detail FROM sandbox_events \
                 WHERE sandbox_id = ?1 AND number < ?2 ORDER BY number DESC LIMIT ?3",
                values![id.as_str(), before, most],
                rows::event,
            )?;
            let more = events.len() > limit;
            events.truncate(limit);
            Ok(EventPage { events, more })
        })
    }
}

/// Records one event of a sandbox, in the transaction that causes it.
pub(super) fn record(
    tx: &Session<'_>,
    of: &Sandbox,
    detail: &EventDetail,
    limits: &Limits,
    now: Timestamp,
) -> Result<()> {
    let Some(recorder) = Recorder::new(tx, limits, &of.id, now)? else { return Ok(()) };
    let class = detail.class();
    recorder.insert(class, &[(recorder::text(detail)?, 1)])?;
    recorder.remove_excess(class)?;
    remove_excess_of_project(tx, limits, recorder.project_id(), class)
}

/// Records a transition, if it is an event for the owner.
pub(super) fn record_transition(
    tx: &Session<'_>,
    before: &Sandbox,
    after: &Sandbox,
    limits: &Limits,
    now: Timestamp,
) -> Result<()> {
    use sandgate_policy::gateway_api::SandboxState::{Pending, Running, Suspended, Suspending};
    let detail = match (before.state, after.state) {
        // A sandbox that never had an address has the generation 0.
        (Pending, Running) if before.generation == 0 => EventDetail::Started,
        (Pending, Running) => EventDetail::Resumed,
        (Pending, Suspended) => EventDetail::ResumeFailed,
        (Running | Suspending, Suspended) => {
            EventDetail::Suspended { confirmed: !after.suspension_unconfirmed }
        }
        _ => return Ok(()),
    };
    record(tx, after, &detail, limits, now)
}

/// Removes events of a sandbox. Returns whether there may be more.
pub(super) fn remove_some(tx: &Session<'_>, id: &SandboxId) -> Result<bool> {
    remove_some_of(tx, id.as_str())
}

fn remove_some_of(tx: &Session<'_>, id: &str) -> Result<bool> {
    let removed = tx.execute(
        &format!(
            "DELETE FROM sandbox_events WHERE sandbox_id = ?1 AND number IN (
                 SELECT number FROM sandbox_events WHERE sandbox_id = ?1
                 ORDER BY number LIMIT {REMOVED_AT_ONCE})"
        ),
        values![id],
    )?;
    Ok(removed == REMOVED_AT_ONCE)
}

/// Removes events of a sandbox that does not exist any more: the disk was full when it was removed, or a server of an earlier
/// version removed it. Returns whether there may be more such events.
pub(super) fn prune_orphans(database: &impl Database) -> Result<bool> {
    // Not in the transaction, because this reads one row of each sandbox with events. No new sandbox has the id of an earlier one.
    let orphan: Option<String> = database.read(|tx| {
        tx.first(
            "WITH RECURSIVE ids (id) AS (                  SELECT min(sandbox_id) FROM sandbox_events                  UNION ALL                  SELECT (SELECT min(sandbox_id) FROM sandbox_events WHERE sandbox_id > ids.id)                  FROM ids WHERE ids.id IS NOT NULL)              SELECT ids.id FROM ids WHERE ids.id IS NOT NULL              AND NOT EXISTS (SELECT 1 FROM sandboxes WHERE sandboxes.id = ids.id) LIMIT 1",
            values![],
            |row| row.get(0),
        )
    })?;
    let Some(orphan) = orphan else { return Ok(false) };
    database.write(|tx| remove_some_of(tx, &orphan))?;
    Ok(true)
}

/// Removes the oldest events, if they began before `end`. Returns whether there may be more such events.
pub(super) fn prune(tx: &Session<'_>, end: Timestamp) -> Result<bool> {
    let removed = tx.execute(
        &format!(
            "DELETE FROM sandbox_events WHERE (sandbox_id, number) IN (
                 SELECT sandbox_id, number FROM sandbox_events WHERE at < ?1
                 ORDER BY at LIMIT {REMOVED_AT_ONCE})"
        ),
        values![end.millis()],
    )?;
    Ok(removed == REMOVED_AT_ONCE)
}

#[cfg(test)]
mod tests;
