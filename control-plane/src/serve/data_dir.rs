//! The data directory of a server: the store, and a lock file that a running server holds.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;

use crate::model::Timestamp;
use crate::store::{SqliteStore, back_up, make_restored};

const DATABASE: &str = "sandgate.db";
const LOCK: &str = "serve.lock";
const UNFINISHED: &str = "sandgate.db.restoring";

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

/// Copies the store of a data directory to a new file. Its server may be running.
///
/// # Errors
/// There is no store, or the copy can't be written.
pub fn back_up_data_dir(data_dir: &Path, copy: &Path) -> anyhow::Result<()> {
    let store = data_dir.join(DATABASE);
    anyhow::ensure!(store.exists(), "{} has no store", data_dir.display());
    anyhow::ensure!(!copy.exists(), "{} exists; name a new file", copy.display());
    back_up(&store, copy).with_context(|| format!("{} can't be written", copy.display()))
}

/// Makes a data directory with the store of a copy. The copy stays as it is.
///
/// # Errors
/// The directory has a store already, or the copy is not one.
pub fn restore_data_dir(copy: &Path, data_dir: &Path) -> anyhow::Result<()> {
    anyhow::ensure!(copy.exists(), "{} does not exist", copy.display());
    make_private_dir(data_dir)
        .with_context(|| format!("the data directory {} can't be made", data_dir.display()))?;
    let _lock = lock(data_dir)?;
    let store = data_dir.join(DATABASE);
    anyhow::ensure!(
        !store.exists(),
        "{} has a store already; choose an empty directory, or move the old store away",
        data_dir.display()
    );
    // A write-ahead log of another store would be applied to this one.
    for suffix in ["-wal", "-shm"] {
        let rest = data_dir.join(format!("{DATABASE}{suffix}"));
        anyhow::ensure!(
            !rest.exists(),
            "{} belongs to another store; move it away",
            rest.display()
        );
    }
    let unfinished = data_dir.join(UNFINISHED);
    let context = || format!("{} can't be written", unfinished.display());
    remove_if_present(&unfinished).with_context(context)?;
    let mut from = File::open(copy).with_context(|| format!("{} can't be read", copy.display()))?;
    let mut to = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unfinished)
        .with_context(context)?;
    std::io::copy(&mut from, &mut to).with_context(context)?;
    drop(to);
    make_restored(&unfinished, Timestamp::now())
        .with_context(|| format!("{} is not a copy of a store", copy.display()))?;
    File::open(&unfinished).and_then(|file| file.sync_all()).with_context(context)?;
    // Only a complete store has the name of one.
    std::fs::rename(&unfinished, &store).with_context(context)?;
    File::open(data_dir).and_then(|dir| dir.sync_all()).with_context(context)
}

fn remove_if_present(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
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
