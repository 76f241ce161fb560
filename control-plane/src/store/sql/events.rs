//! The events of sandboxes in SQL.
//!
//! Each class of events ([`EventClass`]) has bounds of its own: the events of a sandbox, and the events of a project. A
//! transaction that adds events removes the ones beyond the bounds. A sandbox that sends to a million destinations, or a
//! stranger who tries all ports, adds at most [`Limits::denials_of_period`] events in a period, and all further denials are the
//! count of one more. So neither can replace the denials of the recent past.

use sandgate_policy::denials::{Counted, Denials};

use super::{Database, Session, rows, signed, unsigned, values};
use crate::model::{EventClass, EventDetail, Sandbox, SandboxId, Timestamp};
use crate::store::{EventPage, Events, Limits, ReportedDenials, Result, StoreError};

/// Equal denials that begin in the same period are one event.
const PERIOD_MILLIS: i64 = 10 * 60 * 1_000;
/// The most events that one transaction removes because of one bound.
const REMOVED_AT_ONCE: u64 = 500;

impl<D: Database> Events for D {
    fn record_denials(&self, reported: &[ReportedDenials], now: Timestamp) -> Result<()> {
        // A report must not use the space that is reserved for changes that remove access.
        self.write(|tx| {
            for ReportedDenials { sandbox_id, inbound, outbound } in reported {
                let Some(mut recorder) = Recorder::new(tx, self.limits(), sandbox_id, now)? else {
                    continue;
                };
                recorder.add_denials(
                    EventClass::Inbound,
                    inbound,
                    EventDetail::InboundDenied,
                    &EventDetail::MoreInboundDenied,
                )?;
                recorder.add_denials(
                    EventClass::Outbound,
                    outbound,
                    EventDetail::OutboundDenied,
                    &EventDetail::MoreOutboundDenied,
                )?;
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
    recorder.insert(detail.class(), &text(detail)?, 1)?;
    recorder.remove_excess(detail.class())
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

/// Removes all events of a sandbox.
pub(super) fn remove(tx: &Session<'_>, id: &SandboxId) -> Result<()> {
    tx.execute("DELETE FROM sandbox_events WHERE sandbox_id = ?1", values![id.as_str()])?;
    Ok(())
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

/// Adds events to one sandbox.
struct Recorder<'t> {
    tx: &'t Session<'t>,
    limits: &'t Limits,
    sandbox_id: &'t str,
    project_id: String,
    now: Timestamp,
}

impl<'t> Recorder<'t> {
    /// `None` if the sandbox does not exist, or is terminated.
    fn new(
        tx: &'t Session<'t>,
        limits: &'t Limits,
        sandbox_id: &'t SandboxId,
        now: Timestamp,
    ) -> Result<Option<Self>> {
        let sandbox_id = sandbox_id.as_str();
        let project = tx.first(
            "SELECT project_id FROM sandboxes WHERE id = ?1 AND state <> 'terminated'",
            values![sandbox_id],
            |row| row.get(0),
        )?;
        Ok(project.map(|project_id| Self { tx, limits, sandbox_id, project_id, now }))
    }

    fn add_denials<T: Clone>(
        &mut self,
        class: EventClass,
        reported: &Denials<T>,
        detail: impl Fn(T) -> EventDetail,
        more_detail: &EventDetail,
    ) -> Result<()> {
        if reported.denials.is_empty() && reported.more == 0 {
            return Ok(());
        }
        let (mut more, mut listed) = (reported.more, self.listed(class)?);
        for Counted { denial, count } in &reported.denials {
            let text = text(&detail(denial.clone()))?;
            if self.increase(&text, *count)? {
                continue;
            }
            if listed < self.limits.denials_of_period {
                self.insert(class, &text, *count)?;
                listed += 1;
            } else {
                more = more.saturating_add(*count);
            }
        }
        let text = text(more_detail)?;
        if more > 0 && !self.increase(&text, more)? {
            self.insert(class, &text, more)?;
        }
        self.remove_excess(class)
    }

    fn period(&self) -> i64 {
        self.now.millis().div_euclid(PERIOD_MILLIS)
    }

    /// The number of events of a class that began in this period.
    fn listed(&self, class: EventClass) -> Result<u64> {
        let count = self.tx.first(
            "SELECT count(*) FROM sandbox_events WHERE sandbox_id = ?1 AND class = ?2 AND period = ?3",
            values![self.sandbox_id, class.as_str(), self.period()],
            |row| row.get(0),
        )?;
        unsigned(count.unwrap_or_default())
    }

    /// Adds to the count of the equal event of this period. Returns whether there is one.
    fn increase(&self, text: &str, by: u64) -> Result<bool> {
        let by = i64::try_from(by).unwrap_or(i64::MAX);
        // A count that no number can hold stays at the greatest one.
        let changed = self.tx.execute(
            "UPDATE sandbox_events SET last_at = ?4, \
             count = CASE WHEN count > ?6 THEN ?7 ELSE count + ?5 END \
             WHERE sandbox_id = ?1 AND period = ?2 AND detail = ?3",
            values![
                self.sandbox_id,
                self.period(),
                text,
                self.now.millis(),
                by,
                i64::MAX - by,
                i64::MAX
            ],
        )?;
        Ok(changed > 0)
    }

    fn insert(&self, class: EventClass, text: &str, count: u64) -> Result<()> {
        let number: Option<i64> = self.tx.first(
            "UPDATE sandboxes SET events = events + 1 WHERE id = ?1 RETURNING events",
            values![self.sandbox_id],
            |row| row.get(0),
        )?;
        let number = number.ok_or_else(|| StoreError::Corrupt("no sandbox".to_owned()))?;
        let (now, count) = (self.now.millis(), i64::try_from(count).unwrap_or(i64::MAX));
        self.tx.execute(
            "INSERT INTO sandbox_events \
             (sandbox_id, number, project_id, class, period, at, last_at, count, detail) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, ?7, ?8)",
            values![
                self.sandbox_id,
                number,
                &self.project_id,
                class.as_str(),
                self.period(),
                now,
                count,
                text
            ],
        )?;
        Ok(())
    }

    /// Removes the oldest events of a class, of the sandbox and of its project, beyond the limits.
    fn remove_excess(&self, class: EventClass) -> Result<()> {
        let most = |most: usize| i64::try_from(most).unwrap_or(i64::MAX);
        let bounds = self.limits.events_of(class);
        let newest_excess: Option<i64> = self.tx.first(
            "SELECT number FROM sandbox_events WHERE sandbox_id = ?1 AND class = ?2 \
             ORDER BY number DESC LIMIT 1 OFFSET ?3",
            values![self.sandbox_id, class.as_str(), most(bounds.of_sandbox)],
            |row| row.get(0),
        )?;
        if let Some(number) = newest_excess {
            self.tx.execute(
                "DELETE FROM sandbox_events WHERE sandbox_id = ?1 AND class = ?2 AND number <= ?3",
                values![self.sandbox_id, class.as_str(), number],
            )?;
        }
        // The order of this index: `sandbox_events_of_project`.
        let newest_excess: Option<(i64, String, i64)> = self.tx.first(
            "SELECT at, sandbox_id, number FROM sandbox_events \
             WHERE project_id = ?1 AND class = ?2 \
             ORDER BY at DESC, sandbox_id DESC, number DESC LIMIT 1 OFFSET ?3",
            values![&self.project_id, class.as_str(), most(bounds.of_project)],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )?;
        if let Some((at, sandbox_id, number)) = newest_excess {
            self.tx.execute(
                &format!(
                    "DELETE FROM sandbox_events WHERE (sandbox_id, number) IN (
                         SELECT sandbox_id, number FROM sandbox_events
                         WHERE project_id = ?1 AND class = ?2
                         AND (at, sandbox_id, number) <= (?3, ?4, ?5)
                         ORDER BY at, sandbox_id, number LIMIT {REMOVED_AT_ONCE})"
                ),
                values![&self.project_id, class.as_str(), at, &sandbox_id, number],
            )?;
        }
        Ok(())
    }
}

fn text(detail: &EventDetail) -> Result<String> {
    serde_json::to_string(detail).map_err(|error| StoreError::Corrupt(error.to_string()))
}
