//! Tasks that run as long as the server: upkeep of the store, and notice of other processes' writes.

use std::time::Duration;

use crate::db::{Db, Writer};
use crate::feed;
use crate::model::Timestamp;
use crate::store::{self, Store};
use crate::watchers::Watchers;

/// The pause between two rounds of upkeep.
const KEEP_UP_PAUSE: Duration = Duration::from_secs(60);
/// How often gateways are waited for after another process changed something.
const CONFIRM_ATTEMPTS: usize = 3;

/// Prunes the audit log and shrinks the store's file regularly. Each step takes its own turn, so another
/// write waits for one step at most.
pub(super) async fn keep_up(db: Db) {
    let steps: [fn(&dyn Store) -> store::Result<bool>; 2] =
        [|store| store.prune_audit(Timestamp::now()), |store| store.give_back_space()];
    loop {
        for step in steps {
            let mut more = Ok(true);
            while matches!(more, Ok(true)) {
                more = db.note(Writer::Server, step).await;
            }
            if let Err(error) = more {
                tracing::error!(%error, "the audit log or the store's file could not be made smaller");
            }
        }
        tokio::time::sleep(KEEP_UP_PAUSE).await;
    }
}

/// Announces what other processes write, and notes when every gateway has seen it, for the command
/// line that waits for that.
pub(super) async fn follow_store(db: Db, watchers: Watchers) {
    let mut foreign = db.feed().subscribe_foreign();
    let applied = async {
        while foreign.changed().await.is_ok() {
            let revision = *foreign.borrow_and_update();
            for _ in 0..CONFIRM_ATTEMPTS {
                if !watchers.confirmed(revision).await {
                    continue;
                }
                if let Err(error) =
                    db.note(Writer::Server, move |store| store.note_applied(revision)).await
                {
                    tracing::error!(%error, "the store can't be written");
                }
                break;
            }
        }
    };
    tokio::join!(feed::follow(db.clone()), applied);
}
