//! Keeps the files small: bounds the write-ahead log, and gives free pages back to the disk.

use std::fs;

use rusqlite::Connection;

use super::{SqliteStore, lock};
use crate::model::Timestamp;
use crate::store::sql::{Database as _, changes, prune, unsigned};
use crate::store::{Result, Upkeep};

/// The bytes of the write-ahead log that stay allocated when SQLite restarts the log, about every 1,000 pages.
pub(super) const LOG_KEPT: i64 = 4 * 1_024 * 1_024;
/// The bytes from which the log is truncated. SQLite does not restart the log while readers overlap, so it could
/// grow without bound.
const LOG_MAX: u64 = 16 * 1_024 * 1_024;
/// The most bytes by which the database's file may be too short for the pages in the log. On a full disk the file
/// gets them from the reserve, which must be larger than this and one transaction together.
const LACKING_MAX: u64 = 256 * 1_024;
/// The free pages that stay in the database for the next writes.
const FREE_PAGES_KEPT: i64 = 256;
/// The most free pages that one call gives back.
const FREED_AT_ONCE: i64 = 256;

impl Upkeep for SqliteStore {
    fn prune_audit(&self, now: Timestamp) -> Result<bool> {
        // A removal needs space in the write-ahead log first. It must not use the reserve.
        prune(self, now)
    }

    fn begin_history(&self, now: Timestamp) -> Result<()> {
        self.write(|tx| changes::begin_history(tx, now))
    }

    fn give_back_space(&self) -> Result<bool> {
        self.reserve.ensure()?;
        let writer = lock(&self.writer);
        let free: i64 = writer.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
        if free <= FREE_PAGES_KEPT {
            return Ok(false);
        }
        // SQLite frees one page for each row of the result.
        let mut freeing = writer.prepare(&format!("PRAGMA incremental_vacuum({FREED_AT_ONCE})"))?;
        let mut pages = freeing.query([])?;
        while pages.next()?.is_some() {}
        Ok(free > FREE_PAGES_KEPT + FREED_AT_ONCE)
    }
}

impl SqliteStore {
    /// Rewrites a file of an earlier version without incremental vacuum, so that it can shrink.
    ///
    /// # Errors
    /// The disk has no space for the copy, or the store can't be written.
    pub fn make_shrinkable(&self) -> Result<()> {
        let writer = lock(&self.writer);
        let vacuum: i64 = writer.pragma_query_value(None, "auto_vacuum", |row| row.get(0))?;
        if vacuum == 0 {
            writer.execute_batch("VACUUM")?;
            truncate_log(&writer)?;
        }
        Ok(())
    }

    /// Truncates the write-ahead log if it is too long.
    pub(super) fn bound_log(&self, writer: &Connection) {
        let mut log = self.path.as_os_str().to_owned();
        log.push("-wal");
        if fs::metadata(log).is_ok_and(|file| file.len() > LOG_MAX)
            && let Err(error) = truncate_log(writer)
        {
            tracing::warn!(%error, "the write-ahead log of the store could not be shortened");
        }
    }

    /// Extends the database's file for the pages in the log while the disk has space: without this space,
    /// SQLite can't restart the log. Without the reserve, the database takes over the pages of the log
    /// after each transaction, so that the log does not grow into the space that the database may need.
    ///
    /// # Errors
    /// The disk is full, or the store can't be written.
    pub(super) fn take_space_for_log(&self, writer: &Connection) -> Result<()> {
        let number = |pragma| writer.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
        let size = unsigned(number("page_count")?)? * unsigned(number("page_size")?)?;
        let taken = fs::metadata(&self.path).map_or(0, |file| file.len());
        if size.saturating_sub(taken) > LACKING_MAX || !self.reserve.exists() {
            writer.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
        }
        Ok(())
    }

    /// Makes the next transaction overwrite the log from its beginning. The log's file keeps its length,
    /// because on a full disk another program could take the space. Returns whether that succeeded.
    pub(super) fn reuse_log(&self) -> bool {
        let writer = lock(&self.writer);
        let busy = writer.query_row("PRAGMA wal_checkpoint(RESTART)", [], |row| row.get(0));
        busy.is_ok_and(|busy: i64| busy == 0)
    }
}

fn truncate_log(connection: &Connection) -> Result<()> {
    Ok(connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::store::StoreError;

    /// Writes 8 MB and removes them again.
    fn write_and_remove(path: &Path) {
        let connection = Connection::open(path).unwrap();
        connection
            .execute_batch(
                "CREATE TABLE filler (x TEXT);
                 WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 2000)
                 INSERT INTO filler SELECT printf('%4000d', n) FROM n;
                 DROP TABLE filler;",
            )
            .unwrap();
    }

    #[test]
    fn a_file_of_an_earlier_version_is_rewritten_once_and_then_gives_space_back_in_several_calls() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.db");
        write_and_remove(&path);
        let store = SqliteStore::open(&path).unwrap();
        let size = || {
            truncate_log(&lock(&store.writer)).unwrap();
            fs::metadata(&path).unwrap().len()
        };
        assert!(size() > 8_000_000);
        store.make_shrinkable().unwrap();
        let small = size();
        assert!(small < 1_000_000, "{small} bytes");
        write_and_remove(&path);
        assert!(size() > 8_000_000);
        let mut calls = 1;
        while store.give_back_space().unwrap() {
            calls += 1;
        }
        assert!((5..20).contains(&calls), "{calls} calls");
        assert!(size() < small + 2_000_000, "few pages stay free");
    }

    #[test]
    fn a_write_ahead_log_that_is_too_long_is_truncated() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.db");
        let store = SqliteStore::open(&path).unwrap();
        let log = dir.path().join("s.db-wal");
        // A large transaction, all of which is in the log at first.
        store
            .transact(|tx| {
                tx.execute("CREATE TABLE filler (x TEXT)", &[])?;
                tx.execute(
                    "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 5000)
                     INSERT INTO filler SELECT printf('%4000d', n) FROM n",
                    &[],
                )
            })
            .unwrap();
        assert!(fs::metadata(&log).unwrap().len() < LOG_MAX);
    }

    #[test]
    fn upkeep_does_not_use_the_reserve() {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&dir.path().join("s.db")).unwrap();
        let reserve = dir.path().join("s.db-reserve");
        fs::remove_file(&reserve).unwrap();
        // A write to this file fails because the disk is full.
        std::os::unix::fs::symlink("/dev/full", &reserve).unwrap();
        let is_full = |result| matches!(result, Err(StoreError::DiskFull));
        assert!(is_full(store.prune_audit(Timestamp::now())));
        assert!(is_full(store.give_back_space()));
    }
}
