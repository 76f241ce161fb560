//! The store in one SQLite file. It has one writer and many readers (WAL). Another process may write to it too.

mod backup;
mod changes;
mod replicas;
mod reserve;
mod schema;
mod session;
mod upkeep;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::ErrorCode::{self, CannotOpen, DiskFull, SystemIoFailure};
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

pub use self::backup::{back_up, make_restored};
use self::reserve::Reserve;
use super::sql::{Database, Session};
use super::{Limits, Result, StoreError};
use crate::model::Timestamp;

/// The longest time that a write waits for another process's write.
const BUSY_TIMEOUT: Duration = Duration::from_secs(15);
/// The most idle connections of readers that stay open.
const IDLE_READERS: usize = 16;

/// Sandgate's tables in a SQLite file.
pub struct SqliteStore {
    path: PathBuf,
    epoch: String,
    limits: Limits,
    reserve: Reserve,
    writer: Mutex<Connection>,
    readers: Mutex<Vec<Connection>>,
    /// Has its own connection, because `data_version` shows the writes of all other connections.
    observer: Mutex<Observer>,
}

struct Observer {
    connection: Connection,
    data_version: i64,
}

impl SqliteStore {
    /// Opens the file. Creates it and its tables if they are missing. On a full disk, releases the reserve if
    /// it is needed for that.
    ///
    /// # Errors
    /// The file can't be opened or written, is no database, or is of a newer format.
    pub fn open(path: &Path) -> Result<Self> {
        let reserve = Reserve::of(path);
        let connect = || {
            let mut writer = connect(path)?;
            let epoch = schema::migrate(&mut writer, Timestamp::now())?;
            let observer = connect(path)?;
            let data_version = data_version(&observer)?;
            Ok((writer, epoch, Observer { connection: observer, data_version }))
        };
        let (writer, epoch, observer) = match connect() {
            Err(error) if may_be_full(&error) && reserve.release() => connect()?,
            connected => connected?,
        };
        // A full disk does not prevent reading and revoking.
        let _ = reserve.ensure();
        Ok(Self {
            path: path.to_owned(),
            epoch,
            limits: Limits::default(),
            reserve,
            writer: Mutex::new(writer),
            readers: Mutex::new(Vec::new()),
            observer: Mutex::new(observer),
        })
    }

    /// Uses these limits instead of the default ones.
    #[must_use]
    pub fn within(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Runs a transaction. It begins as a writer, because a reader that becomes a writer later may fail.
    fn transact<T>(&self, work: impl FnOnce(&Session<'_>) -> Result<T>) -> Result<T> {
        let mut writer = lock(&self.writer);
        let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let value = work(&*transaction)?;
        transaction.commit()?;
        self.bound_log(&writer);
        // The transaction is committed, so an error is ignored. The next transaction that makes the store
        // grow tries again.
        let _ = self.take_space_for_log(&writer);
        Ok(value)
    }
}

impl Database for SqliteStore {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn read<T>(&self, work: impl FnOnce(&Session<'_>) -> Result<T>) -> Result<T> {
        let idle = lock(&self.readers).pop();
        let mut reader = match idle {
            Some(reader) => reader,
            None => connect(&self.path)?,
        };
        let transaction = reader.transaction()?;
        let value = work(&*transaction);
        drop(transaction);
        let mut readers = lock(&self.readers);
        if readers.len() < IDLE_READERS {
            readers.push(reader);
        }
        value
    }
    fn write<T>(&self, work: impl FnOnce(&Session<'_>) -> Result<T>) -> Result<T> {
        self.reserve.ensure()?;
        let grown = self.take_space_for_log(&lock(&self.writer));
        grown.and_then(|()| self.transact(work)).map_err(|error| match &error {
            StoreError::Unavailable(source) if code(source.as_ref()) == Some(DiskFull) => {
                StoreError::DiskFull
            }
            _ => error,
        })
    }

    /// If the disk is full, this runs `work` again: first over the part of the write-ahead log that is no longer needed, then
    /// with the space of the reserve. Because of the first attempt, many such transactions don't use up
    /// the reserve.
    fn write_on_full_disk<T>(&self, work: impl Fn(&Session<'_>) -> Result<T>) -> Result<T> {
        let is_full = |done: &Result<T>| done.as_ref().is_err_and(may_be_full);
        let mut done = self.transact(&work);
        if is_full(&done) && self.reuse_log() {
            done = self.transact(&work);
        }
        if is_full(&done) && self.reserve.release() {
            // With the released space, the database can take over the pages of the log.
            self.reuse_log();
            done = self.transact(&work);
        }
        done
    }
}

fn connect(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // This must be set before the first table exists. [`upkeep`] gives free pages back to the disk.
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // FULL: after a power failure, a port that was made private must still be private.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "journal_size_limit", upkeep::LOG_KEPT)?;
    Ok(connection)
}

/// Whether a full disk, or a quota, may be the cause of an error. SQLite does not always report
/// `SQLITE_FULL`: it may report an I/O error, or that it can't open the write-ahead log.
fn may_be_full(error: &StoreError) -> bool {
    let StoreError::Unavailable(source) = error else { return false };
    matches!(code(source.as_ref()), Some(CannotOpen | DiskFull | SystemIoFailure))
}

fn code(error: &(dyn std::error::Error + Send + Sync + 'static)) -> Option<ErrorCode> {
    error.downcast_ref::<rusqlite::Error>().and_then(rusqlite::Error::sqlite_error_code)
}

fn data_version(connection: &Connection) -> Result<i64> {
    Ok(connection.pragma_query_value(None, "data_version", |row| row.get(0))?)
}

/// The data is consistent even if another thread panicked, because its transaction was rolled back.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
