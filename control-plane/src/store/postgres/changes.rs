//! The change log, and what the processes of a fleet know of each other.

use tokio::sync::watch;

use super::{PostgresStore, lock};
use crate::store::sql::{Database as _, changes, signed, unsigned, values};
use crate::store::{ChangeLog, ChangesSince, Result, Revision};

/// Whether a row of `replicas` is of a process that serves the store now. Only the clock of the database counts.
const IS_LIVE: &str = "seen_at > clock_timestamp() - interval '3 s'";

impl ChangeLog for PostgresStore {
    fn epoch(&self) -> &str {
        &self.epoch
    }

    fn revision(&self) -> Result<Revision> {
        self.read(changes::current)
    }

    fn written_elsewhere(&self) -> Result<bool> {
        let now = self.revision()?;
        let before = std::mem::replace(&mut *lock(&self.seen), now);
        Ok(now != before)
    }

    fn announced_commits(&self) -> Option<watch::Receiver<Revision>> {
        Some(self.commits.clone())
    }

    fn changes_since(&self, since: Revision, limit: usize) -> Result<ChangesSince> {
        self.read(|tx| changes::since(tx, since, limit))
    }

    fn record_applied(&self, revision: Revision) -> Result<()> {
        let applied = signed(revision)?;
        self.write_unlocked(|tx| {
            // This row need not survive a crash, in which this process loses its connection.
            tx.execute("SET LOCAL synchronous_commit = off", values![])?;
            tx.execute(
                "INSERT INTO replicas VALUES (?1, ?2, clock_timestamp()) ON CONFLICT (id) DO UPDATE \
                 SET applied = greatest(replicas.applied, excluded.applied), \
                 seen_at = excluded.seen_at",
                values![&self.replica, applied],
            )?;
            Ok(())
        })
    }

    fn applied(&self) -> Result<Revision> {
        self.read(|tx| {
            let sql = format!("SELECT min(applied) FROM replicas WHERE {IS_LIVE}");
            match tx.first(&sql, values![], |row| row.get(0))?.flatten() {
                Some(applied) => unsigned(applied),
                // Nobody serves the store, so nobody has to apply anything.
                None => changes::current(tx),
            }
        })
    }
}
