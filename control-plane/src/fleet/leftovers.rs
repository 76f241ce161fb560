//! What a runtime failed to do is asked of it again, until it is done: a platform that was away for
//! a while must not leave sandboxes running that nobody has any more.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use sandgate_policy::gateway::SandboxState;

use super::{BySandbox, Fleet, Inner};
use crate::model::SandboxId;
use crate::runtime::RuntimeError;

/// Between two rounds.
const PAUSE: Duration = Duration::from_secs(30);

impl Fleet {
    /// Asks again, now and then, for as long as the server runs.
    pub async fn follow_leftovers(&self) {
        loop {
            tokio::time::sleep(PAUSE).await;
            self.settle_leftovers().await;
        }
    }

    /// One round: stops what was deleted and not stopped, suspends what was not confirmed.
    pub async fn settle_leftovers(&self) {
        match self.inner.in_state(SandboxState::Terminated).await {
            Ok(terminated) => {
                for sandbox in terminated {
                    Arc::clone(&self.inner).clean_up(sandbox).await;
                }
            }
            Err(error) => tracing::error!(%error, "deleted sandboxes can't be listed"),
        }
        let unconfirmed = self.inner.unconfirmed().clone();
        for (id, generation) in unconfirmed {
            self.inner.confirm(&id, generation).await;
        }
    }
}

impl Inner {
    /// Suspends again what still counts as suspended, and has not run since.
    async fn confirm(&self, id: &SandboxId, generation: u64) {
        let _turn = self.locks.acquire(id).await;
        let which = id.to_ref();
        let found = match self.db.read(move |store| store.sandbox(&which)).await {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(sandbox = %id, %error, "a suspension can't be looked after");
                return;
            }
        };
        let still = found.filter(|sandbox| {
            sandbox.state == SandboxState::Suspended && sandbox.generation == generation
        });
        let settled = match still {
            None => true,
            Some(sandbox) => match self.runtime.suspend(&sandbox).await {
                Ok(()) => true,
                Err(error) => {
                    tracing::error!(sandbox = %id, %error, "the runtime still could not suspend a sandbox");
                    // It runs, and will: its owner can resume or delete it.
                    matches!(error, RuntimeError::Refused { .. })
                }
            },
        };
        if settled {
            self.unconfirmed().remove(id);
        }
    }

    pub(super) fn unconfirmed(&self) -> MutexGuard<'_, BySandbox<u64>> {
        self.unconfirmed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
