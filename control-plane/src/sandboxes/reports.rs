//! What the platform says about a sandbox without having been asked: it ended, or it moved.
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

/// How long a report waits for a step of the same sandbox that is under way. The platform may be at
/// work on that step, and must not wait for itself.
const TURN_WITHIN: Duration = Duration::from_secs(5);

/// What happened to a running sandbox.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum News {
    /// It runs at another address.
    Moved(IpAddr),
    /// It does not run any more, and can be resumed.
    Suspended,
    /// It is gone.
    Terminated,
}

/// What a report did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reported {
    /// The report was applied.
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

/// Why a report changes nothing although it may be true.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// It has to wait for the end of a step.
    #[error("a step of this sandbox is under way; report again when you have answered its call")]
    Busy,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl SandboxService {
    /// Applies a report about a sandbox that was at `was_at` in `placement`.
    ///
    /// # Errors
    /// [`ReportError`]
    pub async fn reported(
        &self,
        id: SandboxId,
        placement: u64,
        was_at: IpAddr,
        news: News,
    ) -> Result<Reported, ReportError> {
        let turn = self.inner.locks.acquire(&id);
        let Ok(turn) = tokio::time::timeout(TURN_WITHIN, turn).await else {
            return Err(ReportError::Busy);
        };
        let inner = Arc::clone(&self.inner);
        // It is finished also when the platform goes away meanwhile.
        let work = tokio::spawn(async move {
            let _turn = turn;
            inner.take_report(id, placement, was_at, news).await
        });
        let taken = work.await.map_err(|error| StoreError::Unavailable(Box::new(error)))?;
        Ok(taken?)
    }
}

impl Inner {
    async fn take_report(
        self: Arc<Self>,
        id: SandboxId,
        placement: u64,
        was_at: IpAddr,
        news: News,
    ) -> Result<Reported> {
        let which = id.to_ref();
        let found = self.db.read(move |store| store.sandbox(&which)).await?;
        let Some((sandbox, address)) =
            found.and_then(|sandbox| sandbox.address.map(|address| (sandbox, address)))
        else {
            return Ok(Reported::Ignored(Ignored::NotRunning));
        };
        let current = sandbox.placement;
        if placement != current {
            let ignored = Ignored::OtherPlacement { reported: placement, current };
            tracing::warn!(sandbox = %id, %ignored, "a late or repeated report of the platform is ignored");
            return Ok(Reported::Ignored(ignored));
        }
        if address != was_at.to_canonical() {
            return Ok(Reported::Ignored(Ignored::Elsewhere(current)));
        }
        tracing::warn!(sandbox = %id, %was_at, ?news, "the platform reports what it did by itself");
        let running = &[SandboxState::Running];
        let taken = match news {
            News::Moved(address) => {
                self.step(&sandbox, running, Transition::Running(address)).await?
            }
            News::Suspended if sandbox.name.is_some() => {
                self.step(&sandbox, running, Transition::Suspended).await?
            }
            // Without a name nothing could ever resume it.
            News::Suspended | News::Terminated => {
                self.terminate(&sandbox, SYSTEM.to_owned()).await?
            }
        };
        // Another control plane on the same store may have taken a step since.
        let Some(Committed { value: after, revision }) = taken else {
            return Ok(Reported::Ignored(Ignored::NotRunning));
        };
        let placement = after.address.is_some().then_some(after.placement);
        Ok(Reported::Applied { revision, placement })
    }
}
