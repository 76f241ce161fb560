//! After a start of the server: sandboxes get back to where the store says they should be.

use std::sync::Arc;

use sandgate_policy::gateway_api::SandboxState;
use tokio::sync::mpsc;

use super::batch::Batch;
use super::resume::after_failed_resume;
use super::{Inner, SandboxService};
use crate::model::{Sandbox, Transition};
use crate::runtime::Exited;
use crate::store::{Result, SYSTEM};

/// Sandboxes that are started or suspended at once, in all and in one project.
const AT_ONCE: usize = 32;
const EACH_PROJECT: usize = 8;

impl SandboxService {
    /// Takes running sandboxes off the address that they had, if the runtime did not outlive the
    /// server. Call it before gateways can ask: those addresses may be anyone's now.
    ///
    /// # Errors
    /// The store failed.
    pub async fn forget_addresses(&self) -> Result<()> {
        if self.inner.runtime.outlives_the_server() {
            return Ok(());
        }
        for sandbox in self.inner.in_state(SandboxState::Running).await? {
            self.inner.step(&sandbox, &[SandboxState::Running], Transition::Pending).await?;
        }
        Ok(())
    }

    /// Finishes the starts and suspensions that the last server began. A round of
    /// [`SandboxService::settle_leftovers`], which finishes deletions too, runs in the background.
    ///
    /// # Errors
    /// The store can't be read.
    pub async fn restore(&self) -> Result<()> {
        let leftovers = self.clone();
        tokio::spawn(async move { leftovers.settle_leftovers().await });
        let mut unfinished = self.inner.in_state(SandboxState::Suspending).await?;
        unfinished.extend(self.inner.in_state(SandboxState::Pending).await?);
        let batch = Batch { at_once: AT_ONCE, each_project: EACH_PROJECT, until: None };
        batch.run(unfinished, |sandbox| Arc::clone(&self.inner).restore_one(sandbox)).await;
        Ok(())
    }

    /// Handles sandboxes that end by themselves, until the runtime is gone.
    pub async fn follow_exits(&self, mut exits: mpsc::UnboundedReceiver<Exited>) {
        while let Some(exited) = exits.recv().await {
            tokio::spawn(Arc::clone(&self.inner).exited(exited));
        }
    }
}

impl Inner {
    pub(super) async fn in_state(&self, state: SandboxState) -> Result<Vec<Sandbox>> {
        self.db.read(move |store| store.sandboxes_in(state)).await
    }

    async fn restore_one(self: Arc<Self>, sandbox: Sandbox) {
        if sandbox.state == SandboxState::Suspending {
            let _turn = self.locks.acquire(&sandbox.id).await;
            // Where it was is not known any more. Nobody waits for the outcome; it is in the log.
            let _ = self.finish_suspend(&sandbox, None).await;
            return;
        }
        // Generation 0: it never ran.
        if sandbox.generation == 0 {
            let _ = self.start(sandbox).await;
            return;
        }
        let turn = self.locks.acquire(&sandbox.id).await;
        let started = self.runtime.resume(&sandbox).await;
        let Err(failure) = self.settle_start(&sandbox, started).await else { return };
        let given_up = if sandbox.name.is_some() {
            let step = after_failed_resume(&failure);
            self.step(&sandbox, &[SandboxState::Pending], step).await
        } else {
            // Nothing could ever resume it.
            drop(turn);
            self.terminate(&sandbox, SYSTEM.to_owned()).await
        };
        if let Err(error) = given_up {
            tracing::error!(sandbox = %sandbox.id, %error, "a failed start could not be written down");
        }
    }
}
