//! Upkeep of the store, as long as the server runs.

use std::time::Duration;

use crate::db::{Db, Writer};
use crate::model::Timestamp;
use crate::store::{self, Store};

/// The pause between two rounds of upkeep.
const KEEP_UP_PAUSE: Duration = Duration::from_secs(60);

/// Prunes the audit log and shrinks the store's file regularly. Each step takes its own turn, so another
/// write waits for one step at most.
pub(super) async fn keep_up(db: Db) {
    let steps: [fn(&dyn Store) -> store::Result<bool>; 2] =
        [|store| store.prune_audit(Timestamp::now()), |store| store.give_back_space()];
    loop {
        for step in steps {
            let mut more = Ok(true);
            while matches!(more, Ok(true)) {
                more = db.write_unannounced(Writer::Server, step).await;
            }
            if let Err(error) = more {
                tracing::error!(%error, "the audit log or the store's file could not be made smaller");
            }
        }
        tokio::time::sleep(KEEP_UP_PAUSE).await;
    }
}
