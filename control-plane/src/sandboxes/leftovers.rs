//! Repeats what a runtime failed to do until it succeeds: after an outage of the platform, no deleted or
//! suspended sandbox may keep running. The store has what is left to do, so it survives a restart.

use std::sync::Arc;
use std::time::Duration;

use sandgate_policy::gateway_api::SandboxState;
use tokio::time::{Instant, timeout};

use super::batch::Batch;
use super::{BySandbox, Inner, SandboxService};
use crate::db::Writer;
use crate::model::Sandbox;
use crate::runtime::RuntimeError;
use crate::store::Result;

/// Between two rounds.
const PAUSE: Duration = Duration::from_secs(30);
/// Attempts at once, in all and for one project.
const AT_ONCE: usize = 32;
const EACH_PROJECT: usize = 4;

/// The state of the rounds. The holder of its lock runs a round, so rounds don't overlap.
#[derive(Default)]
pub(super) struct Rounds {
    /// The number of attempts for each sandbox that is left. Sandboxes with fewer attempts come first, so
    /// sandboxes for which the platform hangs don't block the others of their project for ever.
    attempts: BySandbox<u32>,
}

impl SandboxService {
    /// Asks again, now and then, for as long as the server runs.
    pub async fn follow_leftovers(&self) {
        loop {
            tokio::time::sleep(PAUSE).await;
            self.settle_leftovers().await;
        }
    }

    /// One round: stops what was deleted and not stopped, suspends what was not confirmed.
    pub async fn settle_leftovers(&self) {
        let mut rounds = self.inner.rounds.lock().await;
        let mut leftovers = match self.inner.leftovers().await {
            Ok(leftovers) => leftovers,
            Err(error) => {
                tracing::error!(%error, "the sandboxes that the runtime must still stop or suspend can't be listed");
                return;
            }
        };
        rounds.attempts = leftovers
            .iter()
            .map(|sandbox| {
                let before = rounds.attempts.get(&sandbox.id).copied().unwrap_or_default();
                (sandbox.id.clone(), before)
            })
            .collect();
        leftovers.sort_by_key(|sandbox| rounds.attempts.get(&sandbox.id).copied());
        let batch = Batch {
            at_once: AT_ONCE,
            each_project: EACH_PROJECT,
            until: Some(Instant::now() + self.inner.settings.leftover_round),
        };
        batch
            .run(leftovers, |sandbox| {
                *rounds.attempts.entry(sandbox.id.clone()).or_default() += 1;
                Arc::clone(&self.inner).settle(sandbox)
            })
            .await;
    }
}

impl Inner {
    async fn leftovers(&self) -> Result<Vec<Sandbox>> {
        let mut leftovers = self.in_state(SandboxState::Terminated).await?;
        leftovers.extend(self.db.read(|store| store.unconfirmed_suspensions()).await?);
        Ok(leftovers)
    }

    /// Makes one attempt for one sandbox. If the runtime takes too long, a later round makes another
    /// attempt with the same idempotency key.
    async fn settle(self: Arc<Self>, sandbox: Sandbox) {
        let within = self.settings.leftover_timeout;
        let id = sandbox.id.clone();
        let attempt = async {
            if sandbox.state == SandboxState::Terminated {
                self.clean_up(sandbox).await;
            } else {
                self.confirm(&sandbox).await;
            }
        };
        if timeout(within, attempt).await.is_err() {
            tracing::error!(
                sandbox = %id, ?within,
                "the runtime did not stop or suspend a sandbox in time; it is asked again later",
            );
        }
    }

    /// Suspends again what still counts as suspended, and has not run since.
    async fn confirm(&self, listed: &Sandbox) {
        let id = &listed.id;
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
            sandbox.unconfirmed
                && sandbox.state == SandboxState::Suspended
                && sandbox.generation == listed.generation
        });
        let Some(sandbox) = still else { return };
        if let Err(error) = self.runtime.suspend(&sandbox).await {
            tracing::error!(sandbox = %id, %error, "the runtime still could not suspend a sandbox");
            // After a refusal the sandbox keeps running. Its owner can resume or delete it.
            if !matches!(error, RuntimeError::Refused { .. }) {
                return;
            }
        }
        let confirmed = id.clone();
        let noted =
            self.db.write_unannounced(Writer::Lifecycle(&listed.project_id), move |store| {
                store.confirm_suspension(&confirmed, sandbox.generation)
            });
        if let Err(error) = noted.await {
            tracing::error!(sandbox = %id, %error, "a confirmed suspension could not be written down");
        }
    }
}
