//! The queries of the store. They are written once, in the SQL that all supported databases understand, with the
//! numbered parameters `?1`, `?2` and so on. A driver implements [`Database`] and [`Sql`], and has the tables of its
//! database.

mod audit;
pub(super) mod changes;
mod credentials;
mod events;
mod names;
mod owners;
mod pages;
mod patches;
mod principals;
mod quota;
pub(super) mod rows;
mod sandboxes;
mod transitions;
mod values;

use std::ops::ControlFlow;

pub(super) use self::audit::difference_text;
use self::values::FromColumn;
pub(super) use self::values::{Owned, Value, signed, unsigned, values};
use super::{Limits, Result};
use crate::model::Timestamp;

/// The number of changes in the log. A gateway that is further behind drops all cache entries.
pub(crate) const CHANGE_LOG_LENGTH: u64 = 10_000;

/// A database that runs transactions. Of two writing transactions, the second one sees everything that the first one
/// wrote.
pub(super) trait Database {
    fn limits(&self) -> &Limits;

    /// Runs queries on one snapshot of the database.
    fn read<T>(&self, work: impl FnOnce(&Session<'_>) -> Result<T>) -> Result<T>;

    /// Runs a transaction that may make the store grow.
    ///
    /// # Errors
    /// [`StoreError::DiskFull`](super::StoreError::DiskFull) while the disk is full, and those of `work`.
    fn write<T>(&self, work: impl FnOnce(&Session<'_>) -> Result<T>) -> Result<T>;

    /// Runs a transaction that removes access, or stores what has already happened. It may use space that is
    /// reserved for this. `work` may run more than once.
    fn write_on_full_disk<T>(&self, work: impl Fn(&Session<'_>) -> Result<T>) -> Result<T>;
}

/// A transaction.
pub(super) type Session<'s> = dyn Sql + 's;

/// What a driver does with one statement.
pub(super) trait Sql {
    /// Runs a statement, and returns the number of rows that it changed.
    fn execute(&self, sql: &str, values: &[Value<'_>]) -> Result<u64>;

    /// Calls `read` for each row of the result, until it breaks.
    fn each_row(
        &self,
        sql: &str,
        values: &[Value<'_>],
        read: &mut dyn FnMut(&Row<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()>;
}

impl dyn Sql + '_ {
    /// The first row of the result, if there is one.
    pub(super) fn first<T>(
        &self,
        sql: &str,
        values: &[Value<'_>],
        mut read: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        let mut first = None;
        self.each_row(sql, values, &mut |row| {
            first = Some(read(row)?);
            Ok(ControlFlow::Break(()))
        })?;
        Ok(first)
    }

    /// All rows of the result.
    pub(super) fn all<T>(
        &self,
        sql: &str,
        values: &[Value<'_>],
        mut read: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut all = Vec::new();
        self.each_row(sql, values, &mut |row| {
            all.push(read(row)?);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(all)
    }
}

/// A row of a result.
pub(super) type Row<'r> = dyn Columns + 'r;

/// What a driver does with one row.
pub(super) trait Columns {
    /// The value of a column. The first one has the number 0.
    fn value(&self, column: usize) -> Result<Owned>;
}

impl dyn Columns + '_ {
    pub(super) fn get<T: FromColumn>(&self, column: usize) -> Result<T> {
        T::from_column(self.value(column)?)
    }
}

/// Removes lines of the audit log, and events, that are too old, and events of sandboxes that do not exist. Returns whether there may be more of them.
pub(super) fn prune(database: &impl Database, now: Timestamp) -> Result<bool> {
    let limits = database.limits();
    let more_old = database.write(|tx| {
        let more_lines = audit::prune(tx, now.minus(limits.audit_age))?;
        let more_events = events::prune(tx, now.minus(limits.events_age))?;
        Ok(more_lines || more_events)
    })?;
    Ok(events::prune_orphans(database)? || more_old)
}
