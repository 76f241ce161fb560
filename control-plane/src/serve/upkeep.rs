//! Upkeep of the store while the server runs.

use std::time::Duration;

use crate::db::{Db, Writer};
use crate::metrics::Metrics;
use crate::model::Timestamp;
use crate::store::{self, Store};

/// The pause between two rounds.
const PAUSE: Duration = Duration::from_secs(60);

/// Regularly removes old lines of the audit log and servers that ended long ago, and shrinks the store's file. Each task runs as many short
/// writes, so another write waits for one of them at most.
pub(super) async fn run_upkeep(db: Db, metrics: Metrics) {
    let tasks: [fn(&dyn Store) -> store::Result<bool>; 3] = [
        |store| store.prune_audit(Timestamp::now()),
        |store| store.give_back_space(),
        |store| store.forget_ended().map(|()| false),
    ];
    loop {
        for task in tasks {
            let mut more = Ok(true);
            while matches!(more, Ok(true)) {
                more = db.write_unannounced(Writer::Server, task).await;
            }
            if let Err(error) = more {
                tracing::error!(%error, "the upkeep of the store failed");
            }
        }
        metrics.count_expiring_credentials(&db).await;
        tokio::time::sleep(PAUSE).await;
    }
}
