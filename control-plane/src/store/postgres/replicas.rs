//! The processes that share the database. Only the clock of the database counts.

use super::PostgresStore;
use crate::model::SandboxId;
use crate::store::sql::{Database as _, Session, changes, signed, unsigned, values};
use crate::store::{Replicas, Result, Revision, StoreError};

/// Whether a row of `replicas` is of a process that can be waited for.
const IS_LIVE: &str = "seen_at > clock_timestamp() - interval '3 s'";
/// How long a replica must be silent until another one may take over its claims, and how long that one must have been
/// heard without a break.
const TAKEOVER: &str = "interval '10 s'";

/// Shows that a process is live, and what its watchers have applied.
const PUBLISH: &str = "INSERT INTO replicas VALUES (?1, ?2, clock_timestamp(), clock_timestamp()) \
     ON CONFLICT (id) DO UPDATE SET applied = greatest(replicas.applied, excluded.applied), \
     live_since = CASE WHEN replicas.seen_at > clock_timestamp() - interval '3 s' \
     THEN replicas.live_since ELSE excluded.live_since END, seen_at = excluded.seen_at";

impl PostgresStore {
    /// Shows that this process is live, and what its watchers have applied.
    pub(super) fn publish(&self, applied: Revision) -> Result<()> {
        // Nobody waits for a server that uses the database for nothing.
        self.require_unrestored()?;
        let applied = signed(applied)?;
        self.write_unlocked(&self.contact, |tx| {
            // A crash of the database ends this process's connections, so this row need not survive one.
            tx.execute("SET LOCAL synchronous_commit = off", values![])?;
            tx.execute(PUBLISH, values![&self.replica, applied])?;
            Ok(())
        })
    }

    /// The least revision of the live replicas, or the newest one if nobody serves the store.
    pub(super) fn applied_by_all(&self) -> Result<Revision> {
        self.read(|tx| {
            let sql = format!("SELECT min(applied) FROM replicas WHERE {IS_LIVE}");
            match tx.first(&sql, values![], |row| row.get(0))?.flatten() {
                Some(applied) => unsigned(applied),
                None => changes::current(tx),
            }
        })
    }
}

impl PostgresStore {
    /// The least revision of the other live replicas; `None` if there are no others.
    pub(super) fn applied_by_others(&self, tx: &Session<'_>) -> Result<Option<Revision>> {
        let sql = format!("SELECT min(applied) FROM replicas WHERE id <> ?1 AND {IS_LIVE}");
        let least = tx.first(&sql, values![&self.replica], |row| row.get(0))?;
        least.flatten().map(unsigned).transpose()
    }
}

impl Replicas for PostgresStore {
    fn is_shared(&self) -> bool {
        true
    }

    fn join(&self, egress_is_enforced: bool) -> Result<bool> {
        let egress = if egress_is_enforced { "enforced" } else { "none" };
        self.write(|tx| {
            self.require_own_history(&changes::epoch(tx)?)?;
            let sql = format!(
                "UPDATE meta SET egress = ?1 WHERE egress = ?1 \
                 OR NOT EXISTS (SELECT 1 FROM replicas WHERE id <> ?2 AND {IS_LIVE})"
            );
            if tx.execute(&sql, values![egress, &self.replica])? == 0 {
                return Ok(false);
            }
            let applied = signed(changes::current(tx)?)?;
            tx.execute(PUBLISH, values![&self.replica, applied])?;
            Ok(true)
        })
    }

    fn others_applied(&self) -> Result<Option<Revision>> {
        self.write_unlocked(&self.own, |tx| self.applied_by_others(tx))
    }

    fn claim(&self, id: &SandboxId) -> Result<bool> {
        let sql = format!(
            "INSERT INTO claims VALUES (?1, ?2) ON CONFLICT (sandbox_id) DO UPDATE \
             SET replica = excluded.replica WHERE claims.replica = excluded.replica \
             OR (NOT EXISTS (SELECT 1 FROM replicas WHERE id = claims.replica \
                             AND seen_at > clock_timestamp() - {TAKEOVER}) \
                 AND EXISTS (SELECT 1 FROM replicas WHERE id = excluded.replica AND {IS_LIVE} \
                             AND live_since < clock_timestamp() - {TAKEOVER}))"
        );
        let values = values![id.as_str(), &self.replica];
        Ok(self.write_unlocked(&self.own, |tx| tx.execute(&sql, values))? > 0)
    }

    fn release(&self, id: &SandboxId) -> Result<()> {
        let sql = "DELETE FROM claims WHERE sandbox_id = ?1 AND replica = ?2";
        let values = values![id.as_str(), &self.replica];
        self.write_unlocked(&self.own, |tx| tx.execute(sql, values)).map(drop)
    }

    fn own_claims(&self) -> Result<Vec<SandboxId>> {
        let sql = "SELECT sandbox_id FROM claims WHERE replica = ?1";
        self.write_unlocked(&self.own, |tx| {
            tx.all(sql, values![&self.replica], |row| {
                let id = row.get::<String>(0)?;
                SandboxId::parse(&id)
                    .map_err(|_| StoreError::Corrupt("a claim of no sandbox".to_owned()))
            })
        })
    }

    fn forget_ended(&self) -> Result<()> {
        self.write_unlocked(&self.own, |tx| {
            tx.execute(
                "DELETE FROM replicas WHERE seen_at < clock_timestamp() - interval '1 day'",
                values![],
            )?;
            // The claim of a sandbox that still exists is taken over by the server that next works on it.
            let sql = "DELETE FROM claims WHERE NOT EXISTS \
                       (SELECT 1 FROM sandboxes WHERE id = claims.sandbox_id) AND NOT EXISTS \
                       (SELECT 1 FROM replicas WHERE id = claims.replica)";
            tx.execute(sql, values![]).map(drop)
        })
    }

    fn leave(&self) -> Result<()> {
        self.write_unlocked(&self.own, |tx| {
            tx.execute("DELETE FROM claims WHERE replica = ?1", values![&self.replica])?;
            tx.execute("DELETE FROM replicas WHERE id = ?1", values![&self.replica])?;
            Ok(())
        })
    }
}
