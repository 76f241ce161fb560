//! The start of the server: sandboxes return to the state that the store has for them.

use std::sync::Arc;

use sandgate_policy::gateway_api::SandboxState;
use tokio::sync::mpsc;

use super::batch::Batch;
use super::resume::after_failed_resume;
use super::{Inner, SandboxService};
use crate::model::{Sandbox, Transition};
use crate::runtime::Exited;
use crate::store::{Result, SYSTEM};

/// The most sandboxes that are started or suspended at once.
const AT_ONCE: usize = 32;
/// The most sandboxes of one project that are started or suspended at once.
const AT_ONCE_PER_PROJECT: usize = 8;
/// The pause between two looks for what servers began that are no longer live.
const TAKEOVER_PAUSE: std::time::Duration = std::time::Duration::from_secs(5);

impl SandboxService {
    /// Removes the addresses of running sandboxes, if the runtime ended with the previous server. Call it
    /// before gateways can query: another program may use such an address now.
    ///
    /// # Errors
    /// The store failed.
    pub async fn clear_stale_addresses(&self) -> Result<()> {
        if self.inner.runtime.outlives_the_server() {
            return Ok(());
        }
        for sandbox in self.inner.in_state(SandboxState::Running).await? {
            self.inner.begin(&sandbox, &[SandboxState::Running], Transition::Pending).await?;
        }
        Ok(())
    }

    /// Finishes the starts and suspensions that the previous server began. A round of
    /// [`SandboxService::retry_unfinished`], which finishes deletions too, runs in the background.
    ///
    /// # Errors
    /// The store can't be read.
    pub async fn restore(&self) -> Result<()> {
        let service = self.clone();
        tokio::spawn(async move { service.retry_unfinished().await });
        self.finish_interrupted().await
    }

    /// If several servers share the store: regularly finishes what servers began that are no longer live, and releases
    /// claims that no task of this server has. Runs for as long as the server.
    pub async fn run_takeovers(&self) {
        while self.db().is_shared() {
            tokio::time::sleep(TAKEOVER_PAUSE).await;
            if let Err(error) = self.inner.locks.release_unheld().await {
                tracing::error!(%error, "the claims of this server can't be checked");
            }
            if let Err(error) = self.finish_interrupted().await {
                tracing::error!(%error, "the sandboxes of servers that have ended can't be listed");
            }
        }
    }

    /// Finishes starts and suspensions that nobody works on.
    async fn finish_interrupted(&self) -> Result<()> {
        let mut interrupted = self.inner.in_state(SandboxState::Suspending).await?;
        interrupted.extend(self.inner.in_state(SandboxState::Pending).await?);
        let batch =
            Batch { at_once: AT_ONCE, at_once_per_project: AT_ONCE_PER_PROJECT, until: None };
        batch.run(interrupted, |sandbox| Arc::clone(&self.inner).restore_one(sandbox)).await;
        Ok(())
    }

    /// Handles sandboxes that end without a call, until the runtime is gone.
    pub async fn handle_exits(&self, mut exits: mpsc::UnboundedReceiver<Exited>) {
        while let Some(exited) = exits.recv().await {
            tokio::spawn(Arc::clone(&self.inner).on_exit(exited));
        }
    }
}

impl Inner {
    pub(super) async fn in_state(&self, state: SandboxState) -> Result<Vec<Sandbox>> {
        self.db.read(move |store| store.sandboxes_in(state)).await
    }

    async fn restore_one(self: Arc<Self>, sandbox: Sandbox) {
        let lock = if self.db.is_shared() {
            // A live server may be working on it.
            self.locks.try_acquire(&sandbox.id).await
        } else {
            Some(self.locks.acquire(&sandbox.id).await)
        };
        let Some(lock) = lock else { return };
        if !self.is_unchanged(&sandbox).await {
            return;
        }
        if sandbox.state == SandboxState::Suspending {
            // The former address is unknown. Nobody waits for the outcome, and it is in the log.
            let _ = self.finish_suspend(&sandbox, None).await;
            return;
        }
        // In generation 0, the sandbox has never run.
        if sandbox.generation == 0 {
            let _ = self.start_locked(sandbox, lock).await;
            return;
        }
        let resumed = self.runtime.resume(&sandbox).await;
        let Err(failure) = self.finish_start(&sandbox, resumed).await else { return };
        let stored = if sandbox.name.is_some() {
            let next = after_failed_resume(&failure);
            self.store_result(&sandbox, &[SandboxState::Pending], next).await
        } else {
            // A sandbox without a name can't be resumed later.
            drop(lock);
            if !self.is_unchanged(&sandbox).await {
                return;
            }
            self.terminate(&sandbox, SYSTEM.to_owned()).await
        };
        if let Err(error) = stored {
            tracing::error!(sandbox = %sandbox.id, %error, "a failed start could not be stored");
        }
    }
}
