//! Suspensions that an owner requests.

use std::sync::Arc;
use std::time::Duration;

use sandgate_policy::gateway_api::SandboxState;
use tokio::time::{Instant, timeout_at};

use super::SandboxService;
use crate::model::{Sandbox, SandboxId};
use crate::store::StoreError;

/// Why a sandbox can't be suspended.
#[derive(Debug, thiserror::Error)]
pub enum SuspendError {
    /// Without a name, no request could resume it.
    #[error(
        "the sandbox has no name, so it is ephemeral and can't be suspended; give it a name first"
    )]
    Ephemeral,
    /// Another transition is in progress.
    #[error("the sandbox is {0} and can't be suspended now; try again when it is running")]
    NotRunning(&'static str),
    /// The sandbox does not exist.
    #[error("there is no such sandbox")]
    NotFound,
    /// The runtime refused, so the sandbox keeps running.
    #[error("the sandbox runs on, because it could not be suspended: {0}")]
    Refused(String),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "the suspension is not confirmed: {0}; the sandbox counts as suspended and nothing reaches it; the control plane retries the suspension, and a resume makes the sandbox run"
    )]
    Unconfirmed(String),
}

impl SandboxService {
    /// Suspends a sandbox, so that it can be resumed, and waits up to `wait` for that. Returns the sandbox as
    /// it is then.
    ///
    /// # Errors
    /// [`SuspendError`] if it can't be suspended.
    pub async fn suspend(&self, id: SandboxId, wait: Duration) -> Result<Sandbox, SuspendError> {
        let result = self.suspend_uncounted(id, wait).await;
        self.inner.metrics.suspended(&result);
        result
    }

    async fn suspend_uncounted(
        &self,
        id: SandboxId,
        wait: Duration,
    ) -> Result<Sandbox, SuspendError> {
        let deadline = Instant::now() + wait;
        let sandbox = self.find(id.to_ref()).await?.ok_or(SuspendError::NotFound)?;
        if sandbox.name.is_none() {
            return Err(SuspendError::Ephemeral);
        }
        match sandbox.state {
            SandboxState::Suspended => return Ok(sandbox),
            SandboxState::Suspending => {}
            SandboxState::Running => {
                let task = tokio::spawn(Arc::clone(&self.inner).suspend(sandbox));
                // After a time-out, or when the server stops, the caller gets the sandbox in its current state.
                if let Ok(Ok(Err(failure))) = timeout_at(deadline, task).await {
                    return Err(if failure.refused {
                        SuspendError::Refused(failure.reason)
                    } else {
                        SuspendError::Unconfirmed(failure.reason)
                    });
                }
            }
            SandboxState::Pending | SandboxState::Snapshotting | SandboxState::Terminated => {
                return Err(SuspendError::NotRunning(sandbox.state.as_str()));
            }
        }
        let has_ended = |state| !matches!(state, SandboxState::Running | SandboxState::Suspending);
        self.wait_until(&id, deadline, has_ended).await?.ok_or(SuspendError::NotFound)
    }
}
