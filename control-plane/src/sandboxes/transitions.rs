//! The transitions of a sandbox's lifecycle. Most consist of a write that claims the transition, a call of the
//! runtime, and a write of its result.

use std::net::IpAddr;
use std::sync::Arc;

use sandgate_policy::gateway_api::SandboxState;

use super::Inner;
use super::locks::SandboxLock;
use crate::db::Writer;
use crate::model::{Sandbox, Timestamp, Transition};
use crate::runtime::{Exited, Failure, RuntimeError};
use crate::store::{Committed, Result, SYSTEM, Transitioned};

/// The outcome of a call of the runtime. The log has the full reason of a failure.
pub(super) type Outcome = std::result::Result<(), Failure>;

impl Inner {
    /// Stores a transition that begins: the sandbox must be in one of the states of `from`, in any placement.
    pub(super) async fn begin(
        &self,
        sandbox: &Sandbox,
        from: &'static [SandboxState],
        transition: Transition,
    ) -> Result<Option<Committed<Sandbox>>> {
        self.transition(sandbox, from, None, transition).await
    }

    /// Stores what the runtime has said about a sandbox in its placement: the sandbox must be in one of the states of
    /// `from`, in the same placement. Another server may have taken the sandbox over while this one was cut off from the
    /// store, and the sandbox may be in the same state of a later placement, at another address.
    pub(super) async fn store_result(
        &self,
        sandbox: &Sandbox,
        from: &'static [SandboxState],
        transition: Transition,
    ) -> Result<Option<Committed<Sandbox>>> {
        self.transition(sandbox, from, Some(sandbox.placement), transition).await
    }

    async fn transition(
        &self,
        sandbox: &Sandbox,
        from: &'static [SandboxState],
        within: Option<u64>,
        transition: Transition,
    ) -> Result<Option<Committed<Sandbox>>> {
        let id = sandbox.id.clone();
        let stored = self
            .db
            .write_optional(Writer::Lifecycle(sandbox.project_id.as_str()), move |store| {
                store.transition(&id, from, within, transition, Timestamp::now())
            })
            .await?;
        let Some(Committed { value: Transitioned { sandbox, displaced }, revision }) = stored
        else {
            return Ok(None);
        };
        if let Some(displaced) = displaced {
            log_displaced(&displaced, &sandbox);
        }
        Ok(Some(Committed { value: sandbox, revision }))
    }

    /// Starts a new, pending sandbox. If it does not start, it is terminated.
    pub(super) async fn start(self: Arc<Self>, sandbox: Sandbox) -> Outcome {
        let lock = self.locks.acquire(&sandbox.id).await;
        if !self.is_unchanged(&sandbox).await {
            // It was deleted meanwhile, or another server has started it.
            return Ok(());
        }
        self.start_locked(sandbox, lock).await
    }

    /// Whether no other server has made a transition of a sandbox whose lock this task has.
    pub(super) async fn is_unchanged(&self, sandbox: &Sandbox) -> bool {
        if !self.db.is_shared() {
            return true;
        }
        let which = sandbox.id.to_ref();
        match self.db.read(move |store| store.sandbox(&which)).await {
            Ok(found) => found.is_some_and(|found| {
                (found.state, found.placement) == (sandbox.state, sandbox.placement)
            }),
            Err(error) => {
                tracing::error!(sandbox = %sandbox.id, %error, "a sandbox can't be read");
                false
            }
        }
    }

    /// Starts a pending sandbox whose lock is held.
    pub(super) async fn start_locked(
        self: Arc<Self>,
        sandbox: Sandbox,
        lock: SandboxLock,
    ) -> Outcome {
        let started = self.runtime.start(&sandbox).await;
        let outcome = self.finish_start(&sandbox, started).await;
        drop(lock);
        // Another server may have taken it over and started it.
        if outcome.is_err()
            && self.is_unchanged(&sandbox).await
            && let Err(error) = self.terminate(&sandbox, SYSTEM.to_owned()).await
        {
            tracing::error!(%error, "a sandbox that did not start can't be removed");
        }
        outcome
    }

    /// Stores the address of a pending sandbox that the runtime started or resumed.
    pub(super) async fn finish_start(
        &self,
        sandbox: &Sandbox,
        started: std::result::Result<IpAddr, RuntimeError>,
    ) -> Outcome {
        let address = started.map_err(|error| {
            tracing::error!(sandbox = %sandbox.id, %error, "a sandbox could not be started");
            error.for_owner()
        })?;
        let running = Transition::Running(address);
        match self.store_result(sandbox, &[SandboxState::Pending], running).await {
            Ok(Some(_)) => {
                tracing::info!(sandbox = %sandbox.id, %address, "a sandbox is running");
                Ok(())
            }
            // It was deleted meanwhile, and the deletion stops it.
            Ok(None) => Ok(()),
            Err(error) => {
                tracing::error!(sandbox = %sandbox.id, %error, "a start could not be stored");
                Err(Failure::of_store())
            }
        }
    }

    /// Suspends a running sandbox. If the runtime refuses, it keeps running.
    pub(super) async fn suspend(self: Arc<Self>, sandbox: Sandbox) -> Outcome {
        let _lock = self.locks.acquire(&sandbox.id).await;
        let suspending =
            self.begin(&sandbox, &[SandboxState::Running], Transition::Suspending).await;
        match suspending {
            Ok(Some(Committed { value: suspending, .. })) => {
                // The sandbox may have moved between the query and the lock.
                let was_at =
                    sandbox.address.filter(|_| suspending.generation == sandbox.generation);
                self.finish_suspend(&suspending, was_at).await
            }
            // Another transition came first.
            Ok(None) => Ok(()),
            Err(error) => {
                tracing::error!(sandbox = %sandbox.id, %error, "a sandbox could not be suspended");
                Err(Failure::of_store())
            }
        }
    }

    /// Calls the runtime for a suspending sandbox and stores the result; also after a restart in the middle
    /// of a suspension. After a refusal, the sandbox keeps running at its address. After any other failure,
    /// its actual state is unknown: it counts as suspended, so that nothing is sent to it, and the suspension
    /// is retried later. A resume makes the state known again.
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
                (Transition::StillRunning(address), Err(error.for_owner()))
            }
            (Err(error), _) => {
                tracing::error!(sandbox = %sandbox.id, %error, "the runtime could not suspend a sandbox");
                (
                    Transition::SuspendedUnconfirmed,
                    Err(Failure { refused: false, ..error.for_owner() }),
                )
            }
        };
        match self.store_result(sandbox, &[SandboxState::Suspending], next).await {
            Ok(Some(Committed { value: after, .. })) if after.state != next.state() => {
                tracing::error!(
                    sandbox = %sandbox.id, ?was_at,
                    "a sandbox whose suspension was refused counts as suspended: the platform gave \
                     its address to another one meanwhile",
                );
                outcome.map_err(|failure| Failure { refused: false, ..failure })
            }
            Ok(_) => outcome,
            Err(error) => {
                tracing::error!(sandbox = %sandbox.id, %error, "a suspension could not be stored");
                Err(Failure::of_store())
            }
        }
    }

    /// Terminates a sandbox for all callers at once, and stops it in the background.
    pub(super) async fn terminate(
        self: &Arc<Self>,
        sandbox: &Sandbox,
        principal: String,
    ) -> Result<Option<Committed<Sandbox>>> {
        let id = sandbox.id.clone();
        let terminated = self
            .db
            .write_optional(Writer::Lifecycle(sandbox.project_id.as_str()), move |store| {
                store.terminate_sandbox(&id, &principal, Timestamp::now())
            })
            .await?;
        if let Some(Committed { value: sandbox, .. }) = &terminated {
            let inner = Arc::clone(self);
            let sandbox = sandbox.clone();
            tokio::spawn(async move { inner.stop_terminated(sandbox).await });
        }
        Ok(terminated)
    }

    /// Stops a terminated sandbox and removes it from the store. After a failure,
    /// [`SandboxService::retry_unfinished`] tries again.
    ///
    /// [`SandboxService::retry_unfinished`]: super::SandboxService::retry_unfinished
    pub(super) async fn stop_terminated(self: Arc<Self>, sandbox: Sandbox) {
        let _lock = self.locks.acquire(&sandbox.id).await;
        if let Err(error) = self.runtime.stop(&sandbox).await {
            tracing::error!(
                sandbox = %sandbox.id, %error,
                "a deleted sandbox could not be stopped; trying again later",
            );
            return;
        }
        let id = sandbox.id.clone();
        let removed = self
            .db
            .write_unannounced(Writer::Lifecycle(sandbox.project_id.as_str()), move |store| {
                store.remove_terminated(&id)
            });
        if let Err(error) = removed.await {
            tracing::error!(sandbox = %sandbox.id, %error, "a stopped sandbox could not be removed from the store");
        }
    }

    /// Handles a sandbox that ended without a call. With a name it is suspended, so that the next request
    /// resumes it. Without a name it can't be resumed, so it is terminated.
    pub(super) async fn on_exit(self: Arc<Self>, exited: Exited) {
        let lock = self.locks.acquire(&exited.id).await;
        let id = exited.id.clone();
        let found = self.db.read(move |store| store.sandbox(&id.to_ref())).await;
        let sandbox = match found {
            Ok(Some(sandbox)) if sandbox.address == Some(exited.address) => sandbox,
            // It was deleted or suspended, or it runs at another address.
            Ok(_) => return,
            Err(error) => {
                tracing::error!(sandbox = %exited.id, %error, "the end of a sandbox could not be handled");
                return;
            }
        };
        if sandbox.name.is_some() {
            let stopped =
                self.store_result(&sandbox, &[SandboxState::Running], Transition::Suspending).await;
            if let Ok(Some(committed)) = stopped {
                // Nobody waits for the outcome, and it is in the log.
                let _ = self.finish_suspend(&committed.value, None).await;
            }
            return;
        }
        drop(lock);
        if let Err(error) = self.terminate(&sandbox, SYSTEM.to_owned()).await {
            tracing::error!(%error, "a sandbox that ended could not be removed");
        }
    }
}

/// Logs that the platform gave the address of a sandbox to another one. The first sandbox may still run
/// elsewhere, so [`SandboxService::retry_unfinished`] has the platform suspend or stop it.
///
/// [`SandboxService::retry_unfinished`]: super::SandboxService::retry_unfinished
fn log_displaced(displaced: &Sandbox, by: &Sandbox) {
    tracing::error!(
        sandbox = %displaced.id, by = %by.id, address = ?by.address,
        "the platform gave the address of a running sandbox to another one without reporting that the \
         first one ended; the first one counts as ended now",
    );
}
