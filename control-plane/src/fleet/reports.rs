//! What the platform says about a sandbox without having been asked: it ended, or it moved.
//!
//! A report says where the sandbox was, so that one which comes late, after the sandbox was stopped or
//! runs elsewhere again, changes nothing.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use sandgate_policy::gateway::SandboxState;

use super::{Fleet, Inner};
use crate::model::{SandboxId, Transition};
use crate::store::{Result, Revision, SYSTEM, StoreError};

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

impl Fleet {
    /// Takes a report about a sandbox that was at `was_at`. Returns the revision at which it holds, or
    /// `None` if the sandbox does not run there (any more), which is then known already.
    ///
    /// # Errors
    /// [`ReportError`]
    pub async fn reported(
        &self,
        id: SandboxId,
        was_at: IpAddr,
        news: News,
    ) -> Result<Option<Revision>, ReportError> {
        let turn = self.inner.locks.acquire(&id);
        let Ok(turn) = tokio::time::timeout(TURN_WITHIN, turn).await else {
            return Err(ReportError::Busy);
        };
        let inner = Arc::clone(&self.inner);
        // It is finished also when the platform goes away meanwhile.
        let work = tokio::spawn(async move {
            let _turn = turn;
            inner.take_report(id, was_at, news).await
        });
        let taken = work.await.map_err(|error| StoreError::Unavailable(Box::new(error)))?;
        Ok(taken?)
    }
}

impl Inner {
    async fn take_report(
        self: Arc<Self>,
        id: SandboxId,
        was_at: IpAddr,
        news: News,
    ) -> Result<Option<Revision>> {
        let which = id.to_ref();
        let found = self.db.read(move |store| store.sandbox(&which)).await?;
        let there = found.filter(|sandbox| sandbox.address == Some(was_at.to_canonical()));
        let Some(sandbox) = there else { return Ok(None) };
        tracing::warn!(sandbox = %id, %was_at, ?news, "the platform reports what it did by itself");
        let step = match news {
            News::Moved(address) => Transition::Running(address),
            News::Suspended if sandbox.name.is_some() => Transition::Suspended,
            // Without a name nothing could ever resume it.
            News::Suspended | News::Terminated => {
                let ended = self.terminate(id, SYSTEM.to_owned()).await?;
                return Ok(ended.map(|ended| ended.revision));
            }
        };
        let taken = self.step(&id, &[SandboxState::Running], step).await?;
        Ok(taken.map(|taken| taken.revision))
    }
}
