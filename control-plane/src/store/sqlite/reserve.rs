//! A file beside the database that reserves space for the case that the disk is full. A transaction that
//! must be possible then, such as a revocation, removes the file to get its space. Until the file can be
//! created again, the store refuses everything that makes it grow, so the space is left for revocations.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::random;
use crate::store::StoreError;

/// The bytes of the file. They are enough for about fifty revocations of credentials, each of which writes five pages of 4 KiB to
/// the write-ahead log, or for about twenty changes of sandboxes, which are events too.
const SIZE: usize = 1_024 * 1_024;
/// The pause after a failed attempt to create the file.
const PAUSE: Duration = Duration::from_secs(1);

/// The file.
pub(super) struct Reserve {
    path: PathBuf,
    failed: Mutex<Option<Failed>>,
}

/// The last failure to create the file.
struct Failed {
    at: Instant,
    is_full: bool,
}

impl Failed {
    fn as_result(&self) -> Result<(), StoreError> {
        if self.is_full { Err(StoreError::DiskFull) } else { Ok(()) }
    }
}

impl Reserve {
    /// The reserve of a database: `<database>-reserve`.
    pub(super) fn of(database: &Path) -> Self {
        let mut path = database.as_os_str().to_owned();
        path.push("-reserve");
        Self { path: path.into(), failed: Mutex::new(None) }
    }

    /// Creates the file if it is missing.
    ///
    /// # Errors
    /// [`StoreError::DiskFull`] if there is no space for it. Any other error is logged, and the store works
    /// without the file.
    pub(super) fn ensure(&self) -> Result<(), StoreError> {
        if self.exists() {
            return Ok(());
        }
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(failed) = failed.as_ref().filter(|failed| failed.at.elapsed() < PAUSE) {
            return failed.as_result();
        }
        let Err(error) = self.create() else {
            *failed = None;
            return Ok(());
        };
        let is_full = is_full(&error);
        if !is_full {
            let path = self.path.display();
            tracing::warn!(%path, %error, "no space can be reserved for the case that the disk is full");
        }
        failed.insert(Failed { at: Instant::now(), is_full }).as_result()
    }

    /// Removes the file. Returns whether it existed.
    pub(super) fn release(&self) -> bool {
        let removed = fs::remove_file(&self.path).is_ok();
        if removed {
            tracing::warn!("the disk of the store is full: the reserved space is used");
        }
        removed
    }

    /// Whether the file exists in its full size.
    pub(super) fn exists(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|file| file.len() == SIZE as u64)
    }

    fn create(&self) -> io::Result<()> {
        // The bytes are random because a file system may store zeros without using space for them.
        let bytes = random::bytes(SIZE).map_err(io::Error::other)?;
        let options =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).clone();
        let created = options.open(&self.path).and_then(|mut file| {
            file.write_all(&bytes)?;
            // Some file systems report a full disk only here.
            file.sync_all()
        });
        if created.is_err() {
            // The space of a partial file may be needed now.
            let _ = fs::remove_file(&self.path);
        }
        created
    }
}

fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_can_be_released_and_created_again_also_from_a_partial_file() {
        let dir = tempfile::tempdir().unwrap();
        let reserve = Reserve::of(&dir.path().join("x.db"));
        let file = dir.path().join("x.db-reserve");
        assert!(!reserve.release());
        reserve.ensure().unwrap();
        assert_eq!(fs::metadata(&file).unwrap().len(), SIZE as u64);
        assert!(reserve.release() && !file.exists());
        fs::write(&file, "half").unwrap();
        reserve.ensure().unwrap();
        assert!(reserve.exists());
    }

    #[test]
    fn if_the_file_cant_be_created_the_store_works_without_it_and_the_next_attempt_is_delayed() {
        let dir = tempfile::tempdir().unwrap();
        let reserve = Reserve::of(&dir.path().join("x.db"));
        let file = dir.path().join("x.db-reserve");
        fs::create_dir(&file).unwrap();
        reserve.ensure().unwrap();
        fs::remove_dir(&file).unwrap();
        reserve.ensure().unwrap();
        assert!(!file.exists(), "the pause has not passed");
    }
}
