//! Reports of the platform: a sandbox ended, or moved to another address, without a call of the control plane.
//!
//! A report names the placement that it is about. After the sandbox was suspended, resumed or moved, a late
//! or replayed report is about a placement that has ended. It changes nothing, even if the sandbox has its
//! old address again.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use sandgate_policy::gateway_api::SandboxState;

use super::{Inner, SandboxService};
use crate::model::{SandboxId, Transition};
use crate::store::{Committed, Result, Revision, SYSTEM, StoreError};

/// How long a report waits for a transition of the same sandbox that is in progress. The platform may have to
/// answer the call of that transition first, so the report must not wait for long.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// What happened to a running sandbox.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReportedEvent {
    /// It runs at this address now.
    Moved(IpAddr),
    /// It no longer runs, and can be resumed.
    Suspended,
    /// It no longer exists.
    Terminated,
}

/// The effect of a report.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReportOutcome {
    Applied {
        /// The revision of the change. A gateway that has applied it no longer uses the old address.
        revision: Revision,
        /// The placement that began, if the sandbox moved.
        placement: Option<u64>,
    },
    /// The report changed nothing.
    Ignored(Ignored),
}

/// Why a report changed nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Ignored {
    /// The sandbox does not exist or does not run.
    #[error("the sandbox is not known, or does not run")]
    NotRunning,
    /// The report is about a placement that has ended.
    #[error("the report is about placement {reported}, and the sandbox is in placement {current}")]
    OtherPlacement {
        /// The placement in the report.
        reported: u64,
        /// The placement of the sandbox.
        current: u64,
    },
    /// The sandbox is in the reported placement, but not at the reported address.
    #[error("the sandbox is in placement {0}, but not at `was_at`")]
    Elsewhere(u64),
}

impl Ignored {
    /// The placement in which the sandbox runs, if it does.
    #[must_use]
    pub fn placement(self) -> Option<u64> {
        match self {
            Self::NotRunning => None,
            Self::OtherPlacement { current, .. } | Self::Elsewhere(current) => Some(current),
        }
    }
}

/// Why a report could not be evaluated.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A transition of the sandbox is in progress.
    #[error("a call for this sandbox is in progress; answer it, then report again")]
    Busy,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl SandboxService {
    /// Applies a report about a sandbox that was at `was_at` in `placement`.
    ///
    /// # Errors
    /// [`ReportError`]
    pub async fn apply_report(
        &self,
        id: SandboxId,
        placement: u64,
        was_at: IpAddr,
        event: ReportedEvent,
    ) -> Result<ReportOutcome, ReportError> {
        let lock = self.inner.locks.acquire(&id);
        let Ok(lock) = tokio::time::timeout(LOCK_TIMEOUT, lock).await else {
            return Err(ReportError::Busy);
        };
        let inner = Arc::clone(&self.inner);
        // The task ends the work even if the platform closes its connection meanwhile.
        let task = tokio::spawn(async move {
            let _lock = lock;
            inner.apply_report(id, placement, was_at, event).await
        });
        let outcome = task.await.map_err(|error| StoreError::Unavailable(Box::new(error)))?;
        Ok(outcome?)
    }
}

impl Inner {
    async fn apply_report(
        self: Arc<Self>,
        id: SandboxId,
        placement: u64,
        was_at: IpAddr,
        event: ReportedEvent,
    ) -> Result<ReportOutcome> {
        let which = id.to_ref();
        let found = self.db.read(move |store| store.sandbox(&which)).await?;
        let Some((sandbox, address)) =
            found.and_then(|sandbox| sandbox.address.map(|address| (sandbox, address)))
        else {
            return Ok(ReportOutcome::Ignored(Ignored::NotRunning));
        };
        let current = sandbox.placement;
        if placement != current {
            let ignored = Ignored::OtherPlacement { reported: placement, current };
            tracing::warn!(sandbox = %id, %ignored, "a late or repeated report of the platform is ignored");
            return Ok(ReportOutcome::Ignored(ignored));
        }
        if address != was_at.to_canonical() {
            return Ok(ReportOutcome::Ignored(Ignored::Elsewhere(current)));
        }
        tracing::warn!(sandbox = %id, %was_at, ?event, "the platform reports a change that nobody requested");
        let running = &[SandboxState::Running];
        let applied = match event {
            ReportedEvent::Moved(address) => {
                self.store_result(&sandbox, running, Transition::Running(address)).await?
            }
            ReportedEvent::Suspended if sandbox.name.is_some() => {
                self.store_result(&sandbox, running, Transition::Suspended).await?
            }
            // A sandbox without a name can't be resumed.
            ReportedEvent::Suspended | ReportedEvent::Terminated => {
                self.terminate(&sandbox, SYSTEM.to_owned()).await?
            }
        };
        // Another control plane on the same store may have made a transition since.
        let Some(Committed { value: after, revision }) = applied else {
            return Ok(ReportOutcome::Ignored(Ignored::NotRunning));
        };
        let placement = after.address.is_some().then_some(after.placement);
        Ok(ReportOutcome::Applied { revision, placement })
    }
}
