//! Adds events to one sandbox, and removes the oldest ones beyond the bounds.
//!
//! Other writes wait for the transaction, and who is denied something often chooses how much it has to do. So a denial that
//! repeats reads the events of the current period once, and changes the row of its event; only a new event reads more.

use std::collections::BTreeMap;

use sandgate_policy::denials::{Counted, Denials, InboundDenial, OutboundDenial};

use super::REMOVED_AT_ONCE;
use crate::model::{EventClass, EventDetail, SandboxId, Timestamp};
use crate::store::sql::{Session, values};
use crate::store::{Limits, Result, StoreError};

/// Equal denials that begin in the same period are one event.
const PERIOD_MILLIS: i64 = 10 * 60 * 1_000;

/// Adds events to one sandbox.
pub(super) struct Recorder<'t> {
    tx: &'t Session<'t>,
    limits: &'t Limits,
    sandbox_id: &'t str,
    project_id: String,
    now: Timestamp,
}

/// The number and the count of an event.
type Counter = (i64, i64);

impl<'t> Recorder<'t> {
    /// `None` if the sandbox does not exist, or is terminated.
    pub(super) fn new(
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

    pub(super) fn project_id(&self) -> &str {
        &self.project_id
    }

    /// Counts denials. Returns the classes that have more events than before.
    pub(super) fn add_denials(
        &self,
        inbound: &Denials<InboundDenial>,
        outbound: &Denials<OutboundDenial>,
    ) -> Result<Vec<EventClass>> {
        let detail = EventDetail::InboundDenied;
        let inbound = self.add(inbound, detail, &EventDetail::MoreInboundDenied)?;
        let detail = EventDetail::OutboundDenied;
        let outbound = self.add(outbound, detail, &EventDetail::MoreOutboundDenied)?;
        Ok([inbound, outbound].into_iter().flatten().collect())
    }

    /// Counts the denials of one direction. Returns their class if it has more events than before.
    fn add<T: Clone>(
        &self,
        reported: &Denials<T>,
        detail: impl Fn(T) -> EventDetail,
        more_detail: &EventDetail,
    ) -> Result<Option<EventClass>> {
        if reported.denials.is_empty() && reported.more == 0 {
            return Ok(None);
        }
        let (class, more_text) = (more_detail.class(), text(more_detail)?);
        let mut events = self.events_of_period(class)?;
        let counter_of_more = events.remove(&more_text);
        let (mut new, mut more) = (Vec::<(String, u64)>::new(), reported.more);
        for Counted { denial, count } in &reported.denials {
            let text = text(&detail(denial.clone()))?;
            let listed = events.len().saturating_add(new.len());
            if let Some(counter) = events.get_mut(&text) {
                self.increase(counter, *count)?;
            } else if let Some((_, counted)) = new.iter_mut().find(|(other, _)| *other == text) {
                *counted = counted.saturating_add(*count);
            } else if u64::try_from(listed).is_ok_and(|n| n < self.limits.denials_of_period) {
                new.push((text, *count));
            } else {
                more = more.saturating_add(*count);
            }
        }
        match counter_of_more {
            _ if more == 0 => {}
            Some(mut counter) => self.increase(&mut counter, more)?,
            None => new.push((more_text, more)),
        }
        self.insert(class, &new)?;
        Ok((!new.is_empty()).then_some(class))
    }

    fn period(&self) -> i64 {
        self.now.millis().div_euclid(PERIOD_MILLIS)
    }

    /// The events of a class that began in this period, by their details. They have the highest numbers; the clocks of several
    /// servers may differ by less than a period.
    fn events_of_period(&self, class: EventClass) -> Result<BTreeMap<String, Counter>> {
        let period = self.period();
        let events = self.tx.all(
            "SELECT detail, number, count FROM sandbox_events \
             WHERE sandbox_id = ?1 AND class = ?2 AND period = ?3 AND number > coalesce(( \
                 SELECT number FROM sandbox_events WHERE sandbox_id = ?1 AND period < ?4 \
                 ORDER BY number DESC LIMIT 1), 0)",
            values![self.sandbox_id, class.as_str(), period, period.saturating_sub(1)],
            |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))),
        )?;
        Ok(events.into_iter().collect())
    }

    /// Adds to the count of an event. A count that no number can hold stays at the greatest one.
    fn increase(&self, (number, count): &mut Counter, by: u64) -> Result<()> {
        *count = count.saturating_add(i64::try_from(by).unwrap_or(i64::MAX));
        self.tx.execute(
            "UPDATE sandbox_events SET last_at = ?3, count = ?4 WHERE sandbox_id = ?1 AND number = ?2",
            values![self.sandbox_id, *number, self.now.millis(), *count],
        )?;
        Ok(())
    }

    /// Adds events with these details and counts.
    pub(super) fn insert(&self, class: EventClass, events: &[(String, u64)]) -> Result<()> {
        let added = i64::try_from(events.len()).unwrap_or(i64::MAX);
        if added == 0 {
            return Ok(());
        }
        let last: Option<i64> = self.tx.first(
            "UPDATE sandboxes SET events = events + ?2 WHERE id = ?1 RETURNING events",
            values![self.sandbox_id, added],
            |row| row.get(0),
        )?;
        let last = last.ok_or_else(|| StoreError::Corrupt("no sandbox".to_owned()))?;
        let numbers = last.saturating_sub(added).saturating_add(1)..=last;
        for (number, (detail, count)) in numbers.zip(events) {
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
                    self.now.millis(),
                    i64::try_from(*count).unwrap_or(i64::MAX),
                    detail
                ],
            )?;
        }
        Ok(())
    }

    /// Removes the oldest events of a class of the sandbox, beyond the limit.
    pub(super) fn remove_excess(&self, class: EventClass) -> Result<()> {
        let newest_excess: Option<i64> = self.tx.first(
            "SELECT number FROM sandbox_events WHERE sandbox_id = ?1 AND class = ?2 \
             ORDER BY number DESC LIMIT 1 OFFSET ?3",
            values![
                self.sandbox_id,
                class.as_str(),
                offset(self.limits.events_of(class).of_sandbox)
            ],
            |row| row.get(0),
        )?;
        if let Some(number) = newest_excess {
            self.tx.execute(
                "DELETE FROM sandbox_events WHERE sandbox_id = ?1 AND class = ?2 AND number <= ?3",
                values![self.sandbox_id, class.as_str(), number],
            )?;
        }
        Ok(())
    }
}

/// Removes the oldest events of a class of a project, beyond the limit.
pub(super) fn remove_excess_of_project(
    tx: &Session<'_>,
    limits: &Limits,
    project_id: &str,
    class: EventClass,
) -> Result<()> {
    // The order of this index: `sandbox_events_of_project`.
    let newest_excess: Option<(i64, String, i64)> = tx.first(
        "SELECT at, sandbox_id, number FROM sandbox_events \
         WHERE project_id = ?1 AND class = ?2 \
         ORDER BY at DESC, sandbox_id DESC, number DESC LIMIT 1 OFFSET ?3",
        values![project_id, class.as_str(), offset(limits.events_of(class).of_project)],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )?;
    if let Some((at, sandbox_id, number)) = newest_excess {
        tx.execute(
            &format!(
                "DELETE FROM sandbox_events WHERE (sandbox_id, number) IN (
                     SELECT sandbox_id, number FROM sandbox_events
                     WHERE project_id = ?1 AND class = ?2
                     AND (at, sandbox_id, number) <= (?3, ?4, ?5)
                     ORDER BY at, sandbox_id, number LIMIT {REMOVED_AT_ONCE})"
            ),
            values![project_id, class.as_str(), at, &sandbox_id, number],
        )?;
    }
    Ok(())
}

fn offset(most: usize) -> i64 {
    i64::try_from(most).unwrap_or(i64::MAX)
}

pub(super) fn text(detail: &EventDetail) -> Result<String> {
    serde_json::to_string(detail).map_err(|error| StoreError::Corrupt(error.to_string()))
}
