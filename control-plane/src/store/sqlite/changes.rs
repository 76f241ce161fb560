//! Revisions and the bounded change log.

use rusqlite::{Connection, Transaction, params};
use sandgate_policy::gateway_api::Change;

use super::{CHANGE_LOG_LENGTH, SqliteStore, data_version, lock, signed, unsigned};
use crate::store::{ChangeLog, ChangesSince, Result, Revision, StoreError};

impl ChangeLog for SqliteStore {
    fn epoch(&self) -> &str {
        &self.epoch
    }

    fn revision(&self) -> Result<Revision> {
        self.read(|tx| meta(tx, "revision"))
    }

    fn written_elsewhere(&self) -> Result<bool> {
        let mut observer = lock(&self.observer);
        let now = data_version(&observer.connection)?;
        let before = std::mem::replace(&mut observer.data_version, now);
        Ok(now != before)
    }

    fn changes_since(&self, since: Revision, limit: usize) -> Result<ChangesSince> {
        self.read(|tx| {
            let newest = meta(tx, "revision")?;
            if since < meta(tx, "forgotten")? || since > newest {
                return Ok(ChangesSince::Unknown(newest));
            }
            let mut query = tx.prepare_cached(
                "SELECT revision, change FROM changes WHERE revision > ?1 ORDER BY revision LIMIT ?2",
            )?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let mut rows = query.query(params![signed(since)?, limit])?;
            let (mut reached, mut changes) = (since, Vec::new());
            while let Some(row) = rows.next()? {
                reached = unsigned(row.get(0)?)?;
                let text: String = row.get(1)?;
                changes.push(serde_json::from_str::<Change>(&text).map_err(|error| {
                    StoreError::Corrupt(format!("an unreadable change {reached} ({error})"))
                })?);
            }
            Ok(ChangesSince::Known(reached, changes))
        })
    }

    fn record_applied(&self, revision: Revision) -> Result<()> {
        let revision = signed(revision)?;
        self.write_on_full_disk(|tx| {
            tx.execute("UPDATE meta SET applied = max(applied, ?1)", [revision])?;
            Ok(())
        })
    }

    fn applied(&self) -> Result<Revision> {
        self.read(|tx| meta(tx, "applied"))
    }
}

fn meta(connection: &Connection, column: &'static str) -> Result<u64> {
    let number = connection
        .prepare_cached(&format!("SELECT {column} FROM meta"))?
        .query_row([], |row| row.get(0))?;
    unsigned(number)
}

/// The newest revision in this transaction.
pub(super) fn current(tx: &Transaction<'_>) -> Result<Revision> {
    meta(tx, "revision")
}

/// Appends a change to the log, removes the entries beyond [`CHANGE_LOG_LENGTH`], and returns the revision of
/// the change.
pub(super) fn append(tx: &Transaction<'_>, change: &Change) -> Result<Revision> {
    // `forgotten`: the log has no entries up to and including this revision.
    let (revision, forgotten): (i64, i64) = tx
        .prepare_cached(
            "UPDATE meta SET revision = revision + 1, \
             forgotten = max(forgotten, revision + 1 - ?1) RETURNING revision, forgotten",
        )?
        .query_row([signed(CHANGE_LOG_LENGTH)?], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let text =
        serde_json::to_string(change).map_err(|error| StoreError::Unavailable(Box::new(error)))?;
    tx.prepare_cached("INSERT INTO changes (revision, change) VALUES (?1, ?2)")?
        .execute(params![revision, text])?;
    tx.prepare_cached("DELETE FROM changes WHERE revision <= ?1")?.execute([forgotten])?;
    unsigned(revision)
}
