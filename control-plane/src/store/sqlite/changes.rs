//! The change log, and how other connections' writes are noticed.

use tokio::sync::watch;

use super::{SqliteStore, data_version, lock};
use crate::store::sql::{Database as _, changes, signed, values};
use crate::store::{ChangeLog, ChangesSince, Result, Revision};

impl ChangeLog for SqliteStore {
    fn epoch(&self) -> &str {
        &self.epoch
    }

    fn revision(&self) -> Result<Revision> {
        self.read(changes::current)
    }

    fn poll_revision(&self) -> Result<Revision> {
        self.revision()
    }

    fn written_elsewhere(&self) -> Result<bool> {
        let mut observer = lock(&self.observer);
        let now = data_version(&observer.connection)?;
        let before = std::mem::replace(&mut observer.data_version, now);
        Ok(now != before)
    }

    /// SQLite announces nothing to other processes.
    fn announced_commits(&self) -> Option<watch::Receiver<()>> {
        None
    }

    fn changes_since(&self, since: Revision, limit: usize) -> Result<ChangesSince> {
        self.read(|tx| changes::since(tx, since, limit))
    }

    fn record_applied(&self, revision: Revision) -> Result<()> {
        let revision = signed(revision)?;
        self.write_on_full_disk(|tx| {
            tx.execute("UPDATE meta SET applied = max(applied, ?1)", values![revision])?;
            Ok(())
        })
    }

    fn applied(&self) -> Result<Revision> {
        self.read(|tx| changes::meta(tx, "applied"))
    }
}
