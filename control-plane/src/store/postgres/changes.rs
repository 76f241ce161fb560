//! The change log.

use tokio::sync::watch;

use super::{PostgresStore, clock, lock};
use crate::model::Timestamp;
use crate::store::sql::{Database as _, changes, values};
use crate::store::{ChangeLog, ChangesSince, Result, Revision};

impl ChangeLog for PostgresStore {
    fn epoch(&self) -> &str {
        &self.epoch
    }

    fn revision(&self) -> Result<Revision> {
        self.read(changes::current)
    }

    /// Shows whether the database can be reached, whether it was restored meanwhile, and whether the clocks agree.
    fn poll_revision(&self) -> Result<Revision> {
        let before = Timestamp::now();
        let (revision, epoch, database) = self.write_unlocked(&self.contact, |tx| {
            let database = tx.first(clock::NOW, values![], |row| row.get(0))?;
            let database = Timestamp::from_millis(database.unwrap_or_default());
            Ok((changes::current(tx)?, changes::epoch(tx)?, database))
        })?;
        self.require_own_history(&epoch)?;
        self.clock.compare(before, database, Timestamp::now())?;
        Ok(revision)
    }

    fn written_elsewhere(&self) -> Result<bool> {
        let now = self.poll_revision()?;
        let before = std::mem::replace(&mut *lock(&self.seen), now);
        Ok(now != before)
    }

    fn announced_commits(&self) -> Option<watch::Receiver<()>> {
        Some(self.commits.clone())
    }

    fn changes_since(&self, since: Revision, limit: usize) -> Result<ChangesSince> {
        self.read(|tx| changes::since(tx, since, limit))
    }

    fn record_applied(&self, revision: Revision) -> Result<()> {
        self.publish(revision)
    }

    fn applied(&self) -> Result<Revision> {
        self.applied_by_all()
    }
}
