//! Revisions and the bounded change log.

use sandgate_policy::gateway_api::Change;

use super::{CHANGE_LOG_LENGTH, Session, signed, unsigned, values};
use crate::model::Timestamp;
use crate::random;
use crate::store::{ChangesSince, Result, Revision, StoreError};

/// Up to `limit` changes after `since`.
pub(in crate::store) fn since(
    tx: &Session<'_>,
    since: Revision,
    limit: usize,
) -> Result<ChangesSince> {
    let (newest, forgotten) = (current(tx)?, meta(tx, "forgotten")?);
    if since < forgotten || since > newest {
        return Ok(ChangesSince::Unknown(newest));
    }
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut reached = since;
    let changes = tx.all(
        "SELECT revision, change FROM changes WHERE revision > ?1 ORDER BY revision LIMIT ?2",
        values![signed(since)?, limit],
        |row| {
            reached = unsigned(row.get(0)?)?;
            serde_json::from_str::<Change>(&row.get::<String>(1)?).map_err(|error| {
                StoreError::Corrupt(format!("an unreadable change {reached} ({error})"))
            })
        },
    )?;
    Ok(ChangesSince::Known(reached, changes))
}

/// See [`Upkeep::begin_history`](crate::store::Upkeep::begin_history).
pub(in crate::store) fn begin_history(tx: &Session<'_>, now: Timestamp) -> Result<()> {
    let epoch = random::id(16).map_err(|error| StoreError::Unavailable(Box::new(error)))?;
    // Revisions begin at the time of their store's creation and grow by one for each change, so the time is greater than each
    // revision that the backup does not have.
    tx.execute(
        "UPDATE meta SET epoch = ?1, \
         revision = CASE WHEN revision < ?2 THEN ?2 ELSE revision + 1 END",
        values![&epoch, now.millis()],
    )?;
    tx.execute("UPDATE meta SET forgotten = revision", values![])?;
    tx.execute("DELETE FROM changes", values![])?;
    // Each sandbox gets another placement, not only a running one: the platform may have made the call that its state asks for in
    // the lost history, and would answer the same idempotency key with that outcome, such as a former address.
    tx.execute(
        "UPDATE sandboxes SET network_revision = (SELECT revision FROM meta), \
         placement = (SELECT revision FROM meta), address = NULL, \
         state = CASE WHEN state = 'running' THEN 'pending' ELSE state END",
        values![],
    )?;
    Ok(())
}

/// A number of the table `meta`.
pub(in crate::store) fn meta(tx: &Session<'_>, column: &'static str) -> Result<u64> {
    let sql = format!("SELECT {column} FROM meta");
    let number = tx.first(&sql, values![], |row| row.get(0))?;
    unsigned(number.ok_or_else(|| StoreError::Corrupt("no revision".to_owned()))?)
}

/// The epoch in this transaction. It differs from that of a handle that was opened before a restore.
pub(in crate::store) fn epoch(tx: &Session<'_>) -> Result<String> {
    let epoch = tx.first("SELECT epoch FROM meta", values![], |row| row.get(0))?;
    epoch.ok_or_else(|| StoreError::Corrupt("no epoch".to_owned()))
}

/// The newest revision in this transaction.
pub(in crate::store) fn current(tx: &Session<'_>) -> Result<Revision> {
    meta(tx, "revision")
}

/// Appends a change to the log, removes the entries beyond [`CHANGE_LOG_LENGTH`], and returns the revision of
/// the change.
pub(super) fn append(tx: &Session<'_>, change: &Change) -> Result<Revision> {
    // `forgotten`: the log has no entries up to and including this revision.
    let updated: Option<(i64, i64)> = tx.first(
        "UPDATE meta SET revision = revision + 1, forgotten = \
         CASE WHEN forgotten > revision + 1 - ?1 THEN forgotten ELSE revision + 1 - ?1 END \
         RETURNING revision, forgotten",
        values![signed(CHANGE_LOG_LENGTH)?],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let (revision, forgotten) =
        updated.ok_or_else(|| StoreError::Corrupt("no revision".to_owned()))?;
    let text =
        serde_json::to_string(change).map_err(|error| StoreError::Unavailable(Box::new(error)))?;
    tx.execute("INSERT INTO changes (revision, change) VALUES (?1, ?2)", values![revision, &text])?;
    tx.execute("DELETE FROM changes WHERE revision <= ?1", values![forgotten])?;
    unsigned(revision)
}
