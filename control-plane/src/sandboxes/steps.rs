//! The steps of a sandbox's life: a transition, the runtime's work, a transition.

use std::net::IpAddr;
use std::sync::Arc;

use sandgate_policy::gateway_api::SandboxState;

use super::Inner;
use crate::db::Writer;
use crate::model::{Sandbox, Timestamp, Transition};
use crate::runtime::{Exited, Failure, RuntimeError};
use crate::store::{Committed, Result, SYSTEM, Stepped};

/// How the runtime's work ended. The whole reason of a failure is in the log.
pub(super) type Outcome = std::result::Result<(), Failure>;

impl Inner {
    /// Takes a step if the sandbox is in one of the states of `from`.
    pub(super) async fn step(
        &self,
        sandbox: &Sandbox,
        from: &'static [SandboxState],
        step: Transition,
    ) -> Result<Option<Committed<Sandbox>>> {
        let id = sandbox.id.clone();
        let taken = self
            .db
            .try_write(Writer::Lifecycle(&sandbox.project_id), move |store| {
                store.transition(&id, from, step, Timestamp::now())
            })
            .await?;
        let Some(Committed { value: Stepped { sandbox, displaced }, revision }) = taken else {
            return Ok(None);
        };
        if let Some(displaced) = displaced {
            was_displaced(&displaced, &sandbox);
        }
        Ok(Some(Committed { value: sandbox, revision }))
    }

    /// Starts a new, pending sandbox. One that does not start is terminated.
    pub(super) async fn start(self: Arc<Self>, sandbox: Sandbox) -> Outcome {
        let turn = self.locks.acquire(&sandbox.id).await;
        let started = self.runtime.start(&sandbox).await;
        let running = self.settle_start(&sandbox, started).await;
        drop(turn);
        if running.is_err()
            && let Err(error) = self.terminate(&sandbox, SYSTEM.to_owned()).await
        {
            tracing::error!(%error, "a sandbox that did not start can't be removed");
        }
        running
    }

    /// Writes down where a pending sandbox runs now.
    pub(super) async fn settle_start(
        &self,
        sandbox: &Sandbox,
        started: std::result::Result<IpAddr, RuntimeError>,
    ) -> Outcome {
        let address = started.map_err(|error| {
            tracing::error!(sandbox = %sandbox.id, %error, "a sandbox could not be started");
            error.for_owner()
        })?;
        match self.step(sandbox, &[SandboxState::Pending], Transition::Running(address)).await {
            Ok(Some(_)) => {
                tracing::info!(sandbox = %sandbox.id, %address, "a sandbox is running");
                Ok(())
            }
            // It was deleted meanwhile: its deletion stops it.
            Ok(None) => Ok(()),
            Err(error) => {
                tracing::error!(sandbox = %sandbox.id, %error, "a start could not be written down");
                Err(Failure::of_store())
            }
        }
    }

    /// Suspends a running sandbox; one that can't be suspended runs on.
    pub(super) async fn suspend(self: Arc<Self>, sandbox: Sandbox) -> Outcome {
        let _turn = self.locks.acquire(&sandbox.id).await;
        let suspending =
            self.step(&sandbox, &[SandboxState::Running], Transition::Suspending).await;
        match suspending {
            Ok(Some(Committed { value: suspending, .. })) => {
                // It may have moved between the look at it and its turn.
                let was_at =
                    sandbox.address.filter(|_| suspending.generation == sandbox.generation);
                self.finish_suspend(&suspending, was_at).await
            }
            // Somebody else was quicker.
            Ok(None) => Ok(()),
            Err(error) => {
                tracing::error!(sandbox = %sandbox.id, %error, "a sandbox could not be suspended");
                Err(Failure::of_store())
            }
        }
    }

    /// The second half of a suspension, also after a restart in the middle of one. Where the runtime
    /// refuses, the sandbox runs on where it was. Where it fails, nobody knows whether the sandbox
    /// runs: it counts as suspended, so that nothing is sent to it, the runtime is asked again later,
    /// and a resume finds out.
    pub(super) async fn finish_suspend(
        &self,
        sandbox: &Sandbox,
        was_at: Option<IpAddr>,
    ) -> Outcome {
        let suspended = self.runtime.suspend(sandbox).await;
        let (next, outcome) = match (suspended, was_at) {
            (Ok(()), _) => (Transition::Suspended, Ok(())),
            (Err(error @ RuntimeError::Refused { .. }), Some(address)) => {
                tracing::warn!(sandbox = %sandbox.id, %error, "the runtime refused to suspend a sandbox");
                (Transition::RunningStill(address), Err(error.for_owner()))
            }
            (Err(error), _) => {
                tracing::error!(sandbox = %sandbox.id, %error, "the runtime could not suspend a sandbox");
                (
                    Transition::SuspendedUnconfirmed,
                    Err(Failure { refused: false, ..error.for_owner() }),
                )
            }
        };
        match self.step(sandbox, &[SandboxState::Suspending], next).await {
            Ok(Some(Committed { value: settled, .. })) if settled.state != next.state() => {
                tracing::error!(
                    sandbox = %sandbox.id, ?was_at,
                    "a sandbox whose suspension was refused counts as suspended: the platform gave \
                     its address to another one meanwhile",
                );
                outcome.map_err(|failure| Failure { refused: false, ..failure })
            }
            Ok(_) => outcome,
            Err(error) => {
                tracing::error!(sandbox = %sandbox.id, %error, "a suspension could not be written down");
                Err(Failure::of_store())
            }
        }
    }

    /// Ends a sandbox for everyone at once, and has the runtime clean up behind that.
    pub(super) async fn terminate(
        self: &Arc<Self>,
        sandbox: &Sandbox,
        principal: String,
    ) -> Result<Option<Committed<Sandbox>>> {
        let id = sandbox.id.clone();
        let ended = self
            .db
            .try_write(Writer::Lifecycle(&sandbox.project_id), move |store| {
                store.terminate_sandbox(&id, &principal, Timestamp::now())
            })
            .await?;
        if let Some(Committed { value: sandbox, .. }) = &ended {
            let inner = Arc::clone(self);
            let sandbox = sandbox.clone();
            tokio::spawn(async move { inner.clean_up(sandbox).await });
        }
        Ok(ended)
    }

    /// Stops a terminated sandbox. If that fails, [`SandboxService::settle_leftovers`] tries it again.
    ///
    /// [`SandboxService::settle_leftovers`]: super::SandboxService::settle_leftovers
    pub(super) async fn clean_up(self: Arc<Self>, sandbox: Sandbox) {
        let _turn = self.locks.acquire(&sandbox.id).await;
        if let Err(error) = self.runtime.stop(&sandbox).await {
            tracing::error!(
                sandbox = %sandbox.id, %error,
                "a deleted sandbox could not be stopped; it is tried again later",
            );
            return;
        }
        let id = sandbox.id.clone();
        let forgotten =
            self.db.write_unannounced(Writer::Lifecycle(&sandbox.project_id), move |store| {
                store.remove_terminated(&id)
            });
        if let Err(error) = forgotten.await {
            tracing::error!(sandbox = %sandbox.id, %error, "a deleted sandbox could not be forgotten");
        }
    }

    /// A sandbox ended by itself: with a name it is suspended, so that the next request resumes it;
    /// without one it is gone.
    pub(super) async fn exited(self: Arc<Self>, exited: Exited) {
        let turn = self.locks.acquire(&exited.id).await;
        let id = exited.id.clone();
        let found = self.db.read(move |store| store.sandbox(&id.to_ref())).await;
        let sandbox = match found {
            Ok(Some(sandbox)) if sandbox.address == Some(exited.address) => sandbox,
            // Deleted, suspended, or running elsewhere again.
            Ok(_) => return,
            Err(error) => {
                tracing::error!(sandbox = %exited.id, %error, "the end of a sandbox got lost");
                return;
            }
        };
        if sandbox.name.is_some() {
            let stopped =
                self.step(&sandbox, &[SandboxState::Running], Transition::Suspending).await;
            if let Ok(Some(committed)) = stopped {
                // Its outcome is in the log, and nobody waits for it.
                let _ = self.finish_suspend(&committed.value, None).await;
            }
            return;
        }
        drop(turn);
        if let Err(error) = self.terminate(&sandbox, SYSTEM.to_owned()).await {
            tracing::error!(%error, "a sandbox that ended could not be removed");
        }
    }
}

/// Logs that the platform gave the address of a sandbox to another one.
/// [`SandboxService::settle_leftovers`] has the
/// platform suspend or stop the first one, in case it still runs somewhere.
///
/// [`SandboxService::settle_leftovers`]: super::SandboxService::settle_leftovers
fn was_displaced(displaced: &Sandbox, by: &Sandbox) {
    tracing::error!(
        sandbox = %displaced.id, by = %by.id, address = ?by.address,
        "the platform gave a running sandbox's address to another one: it was not told that the \
         first one ended, and counts it as ended now",
    );
}
