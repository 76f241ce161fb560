//! Resume: one runtime call for each sandbox, however many ask.
//!
//! Those who ask in this process join one *flight*; those who ask elsewhere lose the transition
//! from suspended to pending, and wait for the state to change. A flight goes on when everyone who
//! waited for it has gone away.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use sandgate_policy::gateway_api::SandboxState;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::steps::Outcome;
use super::{BySandbox, Inner, SandboxService, ServiceSettings};
use crate::model::{Sandbox, SandboxId, Transition};
use crate::runtime::Failure;
use crate::store::StoreError;

/// Sandboxes whose last resume is remembered; beyond that, the oldest are let go of.
const REMEMBERED: usize = 10_000;

/// On whose behalf a sandbox is resumed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ResumePolicy {
    /// Its owner said so: `auto_resume` does not matter.
    Owner,
    /// A request came whose sender may reach it.
    Request,
    /// A request came to a public port, from anyone: limited.
    PublicRequest,
}

/// Why a sandbox is not resumed.
#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    /// It is not there.
    #[error("there is no such sandbox")]
    NotFound,
    /// Nothing but its owner can make it run.
    #[error("the sandbox is suspended and {0}")]
    NotResumable(&'static str),
    /// The runtime failed.
    #[error("the sandbox could not be resumed: {}", .0.reason)]
    Failed(Failure),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A public port resumed it a moment ago.
    #[error("the sandbox was resumed through a public port a moment ago; try again later")]
    TooSoon(Duration),
}

/// Closes when it is over; holds why it failed, if it did.
type Flight = watch::Receiver<Option<Failure>>;

/// What is under way, and what was a moment ago.
#[derive(Default)]
pub(super) struct Flights {
    /// The sender lives in the flight's task, so the channel closes when that ends.
    under_way: BySandbox<Flight>,
    last_public: BySandbox<Instant>,
    last_failed: BySandbox<Instant>,
}

impl Flights {
    /// Lets go of what has no effect any more.
    fn tidy(&mut self, settings: &ServiceSettings, now: Instant) {
        if self.last_public.len() >= REMEMBERED {
            let interval = settings.public_resume_interval;
            self.last_public.retain(|_, at| now.duration_since(*at) < interval);
        }
        let pause = settings.failed_resume_pause;
        self.last_failed.retain(|_, at| now.duration_since(*at) < pause);
    }

    /// How long a public request has to wait before it may resume the sandbox.
    fn too_soon(&self, id: &SandboxId, interval: Duration, now: Instant) -> Option<Duration> {
        let since = now.duration_since(*self.last_public.get(id)?);
        interval.checked_sub(since).filter(|left| !left.is_zero())
    }
}

impl SandboxService {
    /// Makes a suspended sandbox run, and waits up to `wait` for that. Returns the sandbox as it is
    /// then; one that runs or starts already is waited for and not resumed.
    ///
    /// # Errors
    /// [`ResumeError`] when it can't be resumed. [`ResumeError::Failed`] only for its owner: a
    /// request is answered with the state.
    pub async fn resume(
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
            _ => may_resume(&sandbox, policy)?,
        }
        let Some(mut landed) = self.board(&sandbox, policy).await? else {
            return self.find(id.to_ref()).await?.ok_or(ResumeError::NotFound);
        };
        // A failure, or the channel closes. A time-out is answered with the state, too.
        let _ = timeout_at(deadline, landed.changed()).await;
        // Another control plane on the same store may have been quicker, and be at it still.
        let found = self.wait_until(&id, deadline, |state| !starting(state)).await?;
        let found = found.ok_or(ResumeError::NotFound)?;
        let failure = landed.borrow().clone();
        match failure.filter(|_| found.state == SandboxState::Suspended) {
            Some(failure) if policy == ResumePolicy::Owner => Err(ResumeError::Failed(failure)),
            _ => Ok(found),
        }
    }

    /// Joins the sandbox's flight, or begins one. `None`: there is nothing to wait for.
    async fn board(
        &self,
        sandbox: &Sandbox,
        policy: ResumePolicy,
    ) -> Result<Option<Flight>, ResumeError> {
        match self.inner.join_or_begin(sandbox, policy) {
            Err(ResumeError::TooSoon(left)) => {
                // It may have been resumed between the look at its state and the look at the limit.
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

fn may_resume(sandbox: &Sandbox, policy: ResumePolicy) -> Result<(), ResumeError> {
    if sandbox.name.is_none() {
        return Err(ResumeError::NotResumable("has no name, so it can't be resumed"));
    }
    if policy != ResumePolicy::Owner && !sandbox.auto_resume {
        return Err(ResumeError::NotResumable("its owner switched `auto_resume` off"));
    }
    Ok(())
}

/// The step after a failed resume. A runtime that refused has changed nothing. After any other failure the
/// sandbox may run, so the runtime must suspend it.
pub(super) fn after_failed_resume(failure: &Failure) -> Transition {
    if failure.refused { Transition::Suspended } else { Transition::SuspendedUnconfirmed }
}

impl Inner {
    fn join_or_begin(
        self: &Arc<Self>,
        sandbox: &Sandbox,
        policy: ResumePolicy,
    ) -> Result<Option<Flight>, ResumeError> {
        let id = &sandbox.id;
        let now = Instant::now();
        let mut flights = self.flights();
        if let Some(flight) = flights.under_way.get(id) {
            return Ok(Some(flight.clone()));
        }
        flights.tidy(&self.settings, now);
        if policy != ResumePolicy::Owner && flights.last_failed.contains_key(id) {
            return Ok(None);
        }
        if policy == ResumePolicy::PublicRequest {
            let interval = self.settings.public_resume_interval;
            if let Some(left) = flights.too_soon(id, interval, now) {
                return Err(ResumeError::TooSoon(left));
            }
            flights.last_public.insert(id.clone(), now);
        }
        let (landing, flight) = watch::channel(None);
        flights.under_way.insert(id.clone(), flight.clone());
        let (inner, sandbox) = (Arc::clone(self), sandbox.clone());
        tokio::spawn(async move {
            let outcome = inner.fly(&sandbox).await;
            let mut flights = inner.flights();
            flights.under_way.remove(&sandbox.id);
            if let Err(failure) = outcome {
                flights.last_failed.insert(sandbox.id, Instant::now());
                landing.send_replace(Some(failure));
            }
            drop(flights);
            drop(landing);
        });
        Ok(Some(flight))
    }

    /// Resumes, if the sandbox is still suspended when its turn comes.
    async fn fly(&self, suspended: &Sandbox) -> Outcome {
        let id = &suspended.id;
        let _turn = self.locks.acquire(id).await;
        let pending = self.step(suspended, &[SandboxState::Suspended], Transition::Pending).await;
        let sandbox = match pending {
            Ok(Some(committed)) => committed.value,
            Ok(None) => return Ok(()),
            Err(error) => {
                tracing::error!(sandbox = %id, %error, "a sandbox could not be resumed");
                return Err(Failure::of_store());
            }
        };
        let started = self.runtime.resume(&sandbox).await;
        let running = self.settle_start(&sandbox, started).await;
        if let Err(failure) = &running
            && let Err(error) =
                self.step(&sandbox, &[SandboxState::Pending], after_failed_resume(failure)).await
        {
            tracing::error!(sandbox = %id, %error, "a failed resume could not be written down");
        }
        running
    }

    fn flights(&self) -> MutexGuard<'_, Flights> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
