//! The store in one SQLite file: one writer, many readers (WAL), and a second process may write.

mod audit;
mod changes;
mod names;
mod principals;
mod rows;
mod sandboxes;
mod schema;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use super::{HELD_NAMES, Result, StoreError};
use crate::model::Timestamp;

/// How long a write waits for another process's write.
const BUSY_TIMEOUT: Duration = Duration::from_secs(15);
/// Read connections that are kept open.
const IDLE_READERS: usize = 16;
/// Changes that the log keeps. A filter that was away for longer forgets everything.
pub(crate) const CHANGE_LOG_LENGTH: u64 = 10_000;

/// Sandgate's tables in a SQLite file.
pub struct SqliteStore {
    path: PathBuf,
    epoch: String,
    /// Freed names that are held for one project.
    held_names: usize,
    writer: Mutex<Connection>,
    readers: Mutex<Vec<Connection>>,
    /// A connection of its own: `data_version` tells one connection what the others wrote.
    observer: Mutex<Observer>,
}

struct Observer {
    connection: Connection,
    data_version: i64,
}

impl SqliteStore {
    /// Opens the file, and makes it and its tables if they are missing.
    ///
    /// # Errors
    /// The file can't be opened or written, is no database, or is of a newer format.
    pub fn open(path: &Path) -> Result<Self> {
        let mut writer = connect(path)?;
        let epoch = schema::migrate(&mut writer, Timestamp::now())?;
        let observer = connect(path)?;
        let data_version = data_version(&observer)?;
        Ok(Self {
            path: path.to_owned(),
            epoch,
            held_names: HELD_NAMES,
            writer: Mutex::new(writer),
            readers: Mutex::new(Vec::new()),
            observer: Mutex::new(Observer { connection: observer, data_version }),
        })
    }

    /// Holds at most so many freed names for one project, instead of [`HELD_NAMES`].
    #[must_use]
    pub fn holding(mut self, names: usize) -> Self {
        self.held_names = names;
        self
    }

    /// Runs a transaction. It begins as a writer: a reader that turns writer half-way could fail.
    fn write<T>(&self, work: impl FnOnce(&Transaction<'_>) -> Result<T>) -> Result<T> {
        let mut writer = lock(&self.writer);
        let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let value = work(&transaction)?;
        transaction.commit()?;
        Ok(value)
    }

    /// Runs queries that see one state of the database.
    fn read<T>(&self, work: impl FnOnce(&Transaction<'_>) -> Result<T>) -> Result<T> {
        let idle = lock(&self.readers).pop();
        let mut reader = match idle {
            Some(reader) => reader,
            None => connect(&self.path)?,
        };
        let transaction = reader.transaction()?;
        let value = work(&transaction);
        drop(transaction);
        let mut readers = lock(&self.readers);
        if readers.len() < IDLE_READERS {
            readers.push(reader);
        }
        value
    }
}

fn connect(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // FULL: a port that was made private must not be public again after a power cut.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    Ok(connection)
}

fn data_version(connection: &Connection) -> Result<i64> {
    Ok(connection.pragma_query_value(None, "data_version", |row| row.get(0))?)
}

/// A panic of another thread leaves no half-done work behind: transactions roll back.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// SQLite keeps signed integers; ours are never near that bound.
fn signed(number: u64) -> Result<i64> {
    i64::try_from(number).map_err(|_| StoreError::Corrupt(format!("the number {number}")))
}

fn unsigned(number: i64) -> Result<u64> {
    u64::try_from(number).map_err(|_| StoreError::Corrupt(format!("the number {number}")))
}
