//! Resumes: one call of the runtime for each sandbox, whatever the number of callers.
//!
//! Callers in this process join the resume in flight. In another process, they lose the transition from
//! suspended to pending, and wait until the state changes. A resume continues when all its callers are gone.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use sandgate_policy::gateway_api::SandboxState;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::transitions::Outcome;
use super::{BySandbox, Inner, SandboxService, ServiceSettings};
use crate::model::{Sandbox, SandboxId, Transition};
use crate::runtime::Failure;
use crate::store::StoreError;

/// The number of public resumes from which expired ones are removed from memory.
const MAX_REMEMBERED: usize = 10_000;

/// On whose behalf a sandbox is resumed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ResumePolicy {
    /// Its owner, whatever `auto_resume` says.
    Owner,
    /// A request that is permitted to reach it.
    Request,
    /// A request to a public port, which anybody can send. Such resumes have a minimum interval.
    PublicRequest,
}

/// Why a sandbox is not resumed.
#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    /// The sandbox does not exist.
    #[error("there is no such sandbox")]
    NotFound,
    /// The sandbox does not permit this resume.
    #[error("the sandbox is suspended and {0}")]
    NotResumable(&'static str),
    #[error("the sandbox could not be resumed: {}", .0.reason)]
    Failed(Failure),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another request to a public port resumed it less than the minimum interval ago.
    #[error("the sandbox was resumed through a public port a moment ago; try again later")]
    TooSoon(Duration),
}

/// A resume in flight. The channel closes at its end, and then holds the failure, if there is one.
type InFlight = watch::Receiver<Option<Failure>>;

/// Resumes in flight, and recent ones that limit others.
#[derive(Default)]
pub(super) struct Resumes {
    /// The task of a resume owns the sender, so the channel closes when the task ends.
    in_flight: BySandbox<InFlight>,
    last_public: BySandbox<Instant>,
    last_failed: BySandbox<Instant>,
}

impl Resumes {
    /// Removes resumes that no longer limit others.
    fn expire(&mut self, settings: &ServiceSettings, now: Instant) {
        if self.last_public.len() >= MAX_REMEMBERED {
            let interval = settings.public_resume_interval;
            self.last_public.retain(|_, at| now.duration_since(*at) < interval);
        }
        let pause = settings.failed_resume_pause;
        self.last_failed.retain(|_, at| now.duration_since(*at) < pause);
    }

    /// The time until a public request may resume the sandbox, if it has to wait.
    fn public_wait(&self, id: &SandboxId, interval: Duration, now: Instant) -> Option<Duration> {
        let since = now.duration_since(*self.last_public.get(id)?);
        interval.checked_sub(since).filter(|left| !left.is_zero())
    }
}

impl SandboxService {
    /// Resumes a suspended sandbox, and waits up to `wait` for it to run. Returns the sandbox as it is then.
    /// If the sandbox runs or starts already, no resume begins.
    ///
    /// # Errors
    /// [`ResumeError`] if it can't be resumed. Only an owner gets [`ResumeError::Failed`]; a request gets
    /// the suspended sandbox.
    pub async fn resume(
        &self,
        id: SandboxId,
        policy: ResumePolicy,
        wait: Duration,
    ) -> Result<Sandbox, ResumeError> {
        let result = self.resume_uncounted(id, policy, wait).await;
        self.inner.metrics.resumed(policy, &result);
        result
    }

    async fn resume_uncounted(
        &self,
        id: SandboxId,
        policy: ResumePolicy,
        wait: Duration,
    ) -> Result<Sandbox, ResumeError> {
        let deadline = Instant::now() + wait;
        let starting = |state| matches!(state, SandboxState::Pending | SandboxState::Snapshotting);
        let sandbox = self.find(id.to_ref()).await?.ok_or(ResumeError::NotFound)?;
        match sandbox.state {
            SandboxState::Running => return Ok(sandbox),
            SandboxState::Terminated => return Err(ResumeError::NotFound),
            state if starting(state) => {
                let found = self.wait_until(&id, deadline, |state| !starting(state)).await?;
                return found.ok_or(ResumeError::NotFound);
            }
            _ => check_resumable(&sandbox, policy)?,
        }
        let Some(mut in_flight) = self.join_resume(&sandbox, policy).await? else {
            return self.find(id.to_ref()).await?.ok_or(ResumeError::NotFound);
        };
        // Returns after a failure or at the end of the resume. After a time-out, the caller gets the sandbox in its
        // current state.
        let _ = timeout_at(deadline, in_flight.changed()).await;
        // Another control plane on the same store may have begun a resume first, and still be at it.
        let found = self.wait_until(&id, deadline, |state| !starting(state)).await?;
        let found = found.ok_or(ResumeError::NotFound)?;
        let failure = in_flight.borrow().clone();
        match failure.filter(|_| found.state == SandboxState::Suspended) {
            Some(failure) if policy == ResumePolicy::Owner => Err(ResumeError::Failed(failure)),
            _ => Ok(found),
        }
    }

    /// Joins the resume in flight, or begins one. Returns `None` if there is nothing to wait for.
    async fn join_resume(
        &self,
        sandbox: &Sandbox,
        policy: ResumePolicy,
    ) -> Result<Option<InFlight>, ResumeError> {
        match self.inner.join_or_begin_resume(sandbox, policy) {
            Err(ResumeError::TooSoon(left)) => {
                // A resume may have ended between the query of the state and the check of the interval.
                let found = self.find(sandbox.id.to_ref()).await?.ok_or(ResumeError::NotFound)?;
                if found.state == SandboxState::Suspended {
                    return Err(ResumeError::TooSoon(left));
                }
                Ok(None)
            }
            other => other,
        }
    }
}

fn check_resumable(sandbox: &Sandbox, policy: ResumePolicy) -> Result<(), ResumeError> {
    if sandbox.name.is_none() {
        return Err(ResumeError::NotResumable("has no name, so it can't be resumed"));
    }
    if policy != ResumePolicy::Owner && !sandbox.auto_resume {
        return Err(ResumeError::NotResumable("its owner switched `auto_resume` off"));
    }
    Ok(())
}

/// The transition after a failed resume. A runtime that refused has changed nothing. After any other failure
/// the sandbox may run, so the runtime must suspend it.
pub(super) fn after_failed_resume(failure: &Failure) -> Transition {
    if failure.refused { Transition::Suspended } else { Transition::SuspendedUnconfirmed }
}

impl Inner {
    fn join_or_begin_resume(
        self: &Arc<Self>,
        sandbox: &Sandbox,
        policy: ResumePolicy,
    ) -> Result<Option<InFlight>, ResumeError> {
        let id = &sandbox.id;
        let now = Instant::now();
        let mut resumes = self.resumes();
        if let Some(in_flight) = resumes.in_flight.get(id) {
            return Ok(Some(in_flight.clone()));
        }
        resumes.expire(&self.settings, now);
        if policy != ResumePolicy::Owner && resumes.last_failed.contains_key(id) {
            return Ok(None);
        }
        if policy == ResumePolicy::PublicRequest {
            let interval = self.settings.public_resume_interval;
            if let Some(left) = resumes.public_wait(id, interval, now) {
                return Err(ResumeError::TooSoon(left));
            }
            resumes.last_public.insert(id.clone(), now);
        }
        let (ended, in_flight) = watch::channel(None);
        resumes.in_flight.insert(id.clone(), in_flight.clone());
        let (inner, sandbox) = (Arc::clone(self), sandbox.clone());
        tokio::spawn(async move {
            let outcome = inner.run_resume(&sandbox).await;
            let mut resumes = inner.resumes();
            resumes.in_flight.remove(&sandbox.id);
            if let Err(failure) = outcome {
                resumes.last_failed.insert(sandbox.id, Instant::now());
                ended.send_replace(Some(failure));
            }
            drop(resumes);
            drop(ended);
        });
        Ok(Some(in_flight))
    }

    /// Resumes the sandbox, if it is still suspended when this task has its lock.
    async fn run_resume(&self, suspended: &Sandbox) -> Outcome {
        let id = &suspended.id;
        let _lock = self.locks.acquire(id).await;
        let pending = self.begin(suspended, &[SandboxState::Suspended], Transition::Pending).await;
        let sandbox = match pending {
            Ok(Some(committed)) => committed.value,
            Ok(None) => return Ok(()),
            Err(error) => {
                tracing::error!(sandbox = %id, %error, "a sandbox could not be resumed");
                return Err(Failure::of_store());
            }
        };
        let resumed = self.runtime.resume(&sandbox).await;
        let outcome = self.finish_start(&sandbox, resumed).await;
        if let Err(failure) = &outcome {
            let next = after_failed_resume(failure);
            let stored = self.store_result(&sandbox, &[SandboxState::Pending], next).await;
            if let Err(error) = stored {
                tracing::error!(sandbox = %id, %error, "a failed resume could not be stored");
            }
        }
        outcome
    }

    fn resumes(&self) -> MutexGuard<'_, Resumes> {
        self.resumes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
