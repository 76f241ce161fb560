//! The data directory of a server: the store, and a lock file that a running server holds.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::path::Path;

use anyhow::Context as _;

use crate::store::SqliteStore;

const DATABASE: &str = "sandgate.db";
const LOCK: &str = "serve.lock";

/// Opens the store of a data directory. Creates both if they are missing.
///
/// # Errors
/// The directory or the database can't be used.
pub(super) fn open_store(data_dir: &Path) -> anyhow::Result<SqliteStore> {
    make_private_dir(data_dir)
        .with_context(|| format!("the data directory {} can't be made", data_dir.display()))?;
    let path = data_dir.join(DATABASE);
    SqliteStore::open(&path)
        .with_context(|| format!("the store {} can't be opened", path.display()))
}

/// Whether a server runs on a data directory.
pub(super) fn is_served(data_dir: &Path) -> bool {
    OpenOptions::new()
        .write(true)
        .open(data_dir.join(LOCK))
        .is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

/// Takes the lock of a data directory. Two servers on one database would both start its sandboxes.
///
/// # Errors
/// Another server holds the lock, or the file can't be written.
pub(super) fn lock(data_dir: &Path) -> anyhow::Result<File> {
    let path = data_dir.join(LOCK);
    let file = OpenOptions::new().create(true).write(true).truncate(false).open(&path);
    let file = file.with_context(|| format!("{} can't be written", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => anyhow::bail!(
            "a server runs on {} already, and a SQLite store has one server; stop it, or choose another --data-dir; \
             several servers can share a --database",
            data_dir.display()
        ),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("{} can't be locked", path.display()))
        }
    }
}

fn make_private_dir(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}
