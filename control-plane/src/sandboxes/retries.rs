//! Retries of stops and suspensions that the runtime failed to do: after an outage of the platform, no deleted
//! or suspended sandbox may keep running. The store lists what is unfinished, so retries survive a restart.

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

/// The pause between two rounds.
const PAUSE: Duration = Duration::from_secs(30);
/// The most attempts at once.
const AT_ONCE: usize = 32;
/// The most attempts at once for the sandboxes of one project.
const AT_ONCE_PER_PROJECT: usize = 4;

/// The state of the rounds. The holder of its lock runs a round, so rounds don't overlap.
#[derive(Default)]
pub(super) struct Retries {
    /// The number of attempts for each unfinished sandbox. Sandboxes with fewer attempts come first, so
    /// sandboxes for which the platform hangs don't block the others of their project for ever.
    attempts: BySandbox<u32>,
}

impl SandboxService {
    /// Runs a round of retries regularly, for as long as the server runs.
    pub async fn run_retries(&self) {
        loop {
            tokio::time::sleep(PAUSE).await;
            self.retry_unfinished().await;
        }
    }

    /// Runs one round: stops deleted sandboxes that were not stopped, and suspends sandboxes whose suspension
    /// is not confirmed.
    pub async fn retry_unfinished(&self) {
        let mut retries = self.inner.retries.lock().await;
        let mut unfinished = match self.inner.unfinished().await {
            Ok(unfinished) => unfinished,
            Err(error) => {
                tracing::error!(%error, "the sandboxes that the runtime must still stop or suspend can't be listed");
                return;
            }
        };
        retries.attempts = unfinished
            .iter()
            .map(|sandbox| {
                let before = retries.attempts.get(&sandbox.id).copied().unwrap_or_default();
                (sandbox.id.clone(), before)
            })
            .collect();
        unfinished.sort_by_key(|sandbox| retries.attempts.get(&sandbox.id).copied());
        let batch = Batch {
            at_once: AT_ONCE,
            at_once_per_project: AT_ONCE_PER_PROJECT,
            until: Some(Instant::now() + self.inner.settings.retry_round),
        };
        batch
            .run(unfinished, |sandbox| {
                *retries.attempts.entry(sandbox.id.clone()).or_default() += 1;
                Arc::clone(&self.inner).retry(sandbox)
            })
            .await;
    }
}

impl Inner {
    async fn unfinished(&self) -> Result<Vec<Sandbox>> {
        let mut unfinished = self.in_state(SandboxState::Terminated).await?;
        unfinished.extend(self.db.read(|store| store.unconfirmed_suspensions()).await?);
        Ok(unfinished)
    }

    /// Makes one attempt for one sandbox. If the runtime takes too long, a later round makes another
    /// attempt with the same idempotency key.
    async fn retry(self: Arc<Self>, sandbox: Sandbox) {
        let within = self.settings.retry_timeout;
        let id = sandbox.id.clone();
        let attempt = async {
            if sandbox.state == SandboxState::Terminated {
                self.stop_terminated(sandbox).await;
            } else {
                self.retry_suspension(&sandbox).await;
            }
        };
        if timeout(within, attempt).await.is_err() {
            tracing::error!(
                sandbox = %id, ?within,
                "the runtime did not stop or suspend a sandbox in time; trying again later",
            );
        }
    }

    /// Suspends a sandbox again, unless it has been confirmed or resumed since it was listed.
    async fn retry_suspension(&self, listed: &Sandbox) {
        let id = &listed.id;
        let _lock = self.locks.acquire(id).await;
        let which = id.to_ref();
        let found = match self.db.read(move |store| store.sandbox(&which)).await {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(sandbox = %id, %error, "a sandbox with an unconfirmed suspension can't be read");
                return;
            }
        };
        let unconfirmed = found.filter(|sandbox| {
            sandbox.suspension_unconfirmed
                && sandbox.state == SandboxState::Suspended
                && sandbox.generation == listed.generation
        });
        let Some(sandbox) = unconfirmed else { return };
        if let Err(error) = self.runtime.suspend(&sandbox).await {
            tracing::error!(sandbox = %id, %error, "the runtime still could not suspend a sandbox");
            // After a refusal the sandbox keeps running. Its owner can resume or delete it.
            if !matches!(error, RuntimeError::Refused { .. }) {
                return;
            }
        }
        let confirmed = id.clone();
        let stored = self
            .db
            .write_unannounced(Writer::Lifecycle(listed.project_id.as_str()), move |store| {
                store.confirm_suspension(&confirmed, sandbox.generation)
            });
        if let Err(error) = stored.await {
            tracing::error!(sandbox = %id, %error, "a confirmed suspension could not be stored");
        }
    }
}
