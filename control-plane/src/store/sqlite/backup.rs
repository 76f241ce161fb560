//! Copies of a store, made while a server writes to it, and new stores from them.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rusqlite::{Connection, OpenFlags, params};

use super::schema;
use super::{BUSY_TIMEOUT, connect};
use crate::model::Timestamp;
use crate::store::{Result, StoreError};

/// Writes a copy of the store at `store` to the file `copy`, which must not exist. The copy has everything that was committed when
/// this began, and nothing later. A server may write meanwhile, and does not wait.
///
/// # Errors
/// The store can't be read, or the copy can't be written.
pub fn back_up(store: &Path, copy: &Path) -> Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(store, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // It has the hashes of all secrets. SQLite keeps the mode of an empty file.
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(copy);
    created.map_err(|error| StoreError::Unavailable(Box::new(error)))?;
    let written = write(&connection, copy);
    if written.is_err() {
        // Half a copy must not look like one. The first error says more than one of the removal.
        let _ = std::fs::remove_file(copy);
    }
    written
}

fn write(connection: &Connection, copy: &Path) -> Result<()> {
    let path = copy.to_str().ok_or_else(|| {
        let reason = format!("the path {} is not UTF-8", copy.display());
        StoreError::Unavailable(reason.into())
    })?;
    connection.execute("VACUUM INTO ?1", params![path])?;
    File::open(copy)
        .and_then(|file| file.sync_all())
        .map_err(|error| StoreError::Unavailable(Box::new(error)))
}

/// Checks a copy of [`back_up`], which becomes a store with a new history; see
/// [`Upkeep::begin_history`](crate::store::Upkeep::begin_history).
///
/// # Errors
/// The file is damaged, no store, or of a newer format.
pub fn make_restored(path: &Path, now: Timestamp) -> Result<()> {
    let check = || {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        let result: String =
            connection.pragma_query_value(None, "integrity_check", |row| row.get(0))?;
        if result != "ok" {
            return Err(StoreError::Corrupt(format!("a damaged page ({result})")));
        }
        // An empty file would become an empty store.
        connection.query_row("SELECT epoch FROM meta", [], |row| row.get::<_, String>(0))?;
        Ok(())
    };
    check()?;
    let mut connection = connect(path)?;
    schema::migrate(&mut connection, now)?;
    let transaction = connection.transaction()?;
    crate::store::sql::changes::begin_history(&*transaction, now)?;
    transaction.commit()?;
    // The rest of the write-ahead log gets into the file, which then is complete without other files.
    connection.pragma_update(None, "journal_mode", "DELETE")?;
    Ok(())
}
