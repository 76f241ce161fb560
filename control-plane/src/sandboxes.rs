//! The life of sandboxes: the rules, between the store that remembers and the runtime that acts.
//!
//! Runtime calls for one sandbox follow one another; each is framed by transitions in
//! the store, of which only one can win, so several control planes can share a store. Work that has
//! begun goes on when the caller who asked for it goes away.

mod batch;
mod leftovers;
mod locks;
mod reports;
mod restore;
mod resume;
mod steps;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sandgate_policy::gateway_api::SandboxState;
use sandgate_policy::ids::SandboxRef;
use tokio::sync::oneshot;
use tokio::time::Instant;

use self::leftovers::Rounds;
use self::locks::KeyedLocks;
pub use self::reports::{Ignored, News, ReportError, Reported};
use self::resume::Flights;
pub use self::resume::{ResumeError, ResumePolicy};
use crate::changes::Changes;
use crate::db::{Db, Writer};
use crate::model::{NewSandbox, Sandbox, SandboxId, SandboxPatch, Timestamp};
use crate::runtime::{Failure, Runtime};
use crate::store::{Committed, Patched, Result, StoreError};

/// Bounds that an operator may change.
#[derive(Clone, Copy, Debug)]
pub struct ServiceSettings {
    /// Requests to public ports resume one sandbox at most once in this time.
    pub public_resume_interval: Duration,
    /// After a failed resume, requests don't try again for this long.
    pub failed_resume_pause: Duration,
    /// How long one attempt may take that repeats what the runtime failed to do.
    pub leftover_timeout: Duration,
    /// In one round, such attempts begin for this long. The other sandboxes have their turn in the next
    /// round.
    pub leftover_round: Duration,
}

impl Default for ServiceSettings {
    fn default() -> Self {
        Self {
            public_resume_interval: Duration::from_secs(10),
            failed_resume_pause: Duration::from_secs(1),
            leftover_timeout: Duration::from_secs(30),
            leftover_round: Duration::from_secs(60),
        }
    }
}

/// All sandboxes of the deployment.
#[derive(Clone)]
pub struct SandboxService {
    inner: Arc<Inner>,
    /// Has the readers of this handle.
    changes: Changes,
}

struct Inner {
    db: Db,
    runtime: Arc<dyn Runtime>,
    settings: ServiceSettings,
    locks: KeyedLocks,
    flights: Mutex<Flights>,
    rounds: tokio::sync::Mutex<Rounds>,
}

/// Why a sandbox can't be suspended.
#[derive(Debug, thiserror::Error)]
pub enum SuspendError {
    /// Without a name it could never be resumed by name.
    #[error(
        "the sandbox has no name, so it is ephemeral and can't be suspended; give it a name first"
    )]
    Ephemeral,
    /// It is on its way to something else.
    #[error("the sandbox is {0} and can't be suspended now; try again when it is running")]
    NotRunning(&'static str),
    /// It is not there.
    #[error("there is no such sandbox")]
    NotFound,
    /// The runtime refused: it runs on.
    #[error("the sandbox runs on, as it could not be suspended: {0}")]
    Refused(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The runtime failed.
    #[error(
        "the suspension is not confirmed: {0}; the sandbox counts as suspended and nothing reaches it, the platform is asked again, and a resume makes it run"
    )]
    Unconfirmed(String),
}

/// A sandbox that is being started.
pub struct Starting {
    /// As it was written down.
    pub made: Committed<Sandbox>,
    /// How its start ends; closed without a word if the server stops before that.
    pub started: oneshot::Receiver<std::result::Result<(), Failure>>,
}

impl SandboxService {
    /// Sandboxes of a store, living in a runtime.
    #[must_use]
    pub fn new(changes: Changes, runtime: Arc<dyn Runtime>, settings: ServiceSettings) -> Self {
        Self {
            inner: Arc::new(Inner {
                db: changes.db().clone(),
                runtime,
                settings,
                locks: KeyedLocks::default(),
                flights: Mutex::new(Flights::default()),
                rounds: tokio::sync::Mutex::default(),
            }),
            changes,
        }
    }

    /// The same sandboxes, for callers whose queries must not wait for those of others.
    #[must_use]
    pub fn with_own_readers(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), changes: self.changes.with_own_readers() }
    }

    /// The database.
    #[must_use]
    pub fn db(&self) -> &Db {
        self.changes.db()
    }

    /// The changes of the database.
    #[must_use]
    pub fn changes(&self) -> &Changes {
        &self.changes
    }

    /// The sandbox of an id or a name, in whatever project.
    ///
    /// # Errors
    /// The store can't be read.
    pub async fn find(&self, which: SandboxRef) -> Result<Option<Sandbox>> {
        self.db().read(move |store| store.sandbox(&which)).await
    }

    /// Makes a sandbox and begins to start it.
    ///
    /// # Errors
    /// Those of [`crate::store::Sandboxes::create_sandbox`].
    pub async fn create(&self, new: NewSandbox) -> Result<Starting> {
        let project = new.project_id.clone();
        let made = self
            .inner
            .db
            .write(Writer::Owner(&project), move |store| {
                store.create_sandbox(&new, Timestamp::now())
            })
            .await?;
        let inner = Arc::clone(&self.inner);
        let sandbox = made.value.clone();
        let (done, started) = oneshot::channel();
        // Whoever asked may have gone away.
        tokio::spawn(async move { drop(done.send(inner.start(sandbox).await)) });
        Ok(Starting { made, started })
    }

    /// Changes what an owner may change.
    ///
    /// # Errors
    /// Those of [`crate::store::Sandboxes::patch_sandbox`].
    pub async fn patch(
        &self,
        sandbox: &Sandbox,
        patch: SandboxPatch,
        principal: String,
    ) -> Result<Committed<Patched>> {
        let id = sandbox.id.clone();
        let patched = self
            .inner
            .db
            .write(Writer::Owner(&sandbox.project_id), move |store| {
                store.patch_sandbox(&id, &patch, &principal, Timestamp::now())
            })
            .await?;
        let opened = patched.value.opened_ports();
        if !opened.is_empty() {
            let after = &patched.value.after;
            tracing::warn!(
                sandbox = %after.id,
                project = %after.project_id,
                ports = ?opened,
                "ports that needed a credential are public now",
            );
        }
        Ok(patched)
    }

    /// Ends a sandbox for everyone and begins to stop it. `None` if it is not there.
    ///
    /// # Errors
    /// The store failed.
    pub async fn delete(
        &self,
        sandbox: &Sandbox,
        principal: String,
    ) -> Result<Option<Committed<Sandbox>>> {
        self.inner.terminate(sandbox, principal).await
    }

    /// Stops a sandbox so that it can be resumed, and waits for that.
    ///
    /// # Errors
    /// [`SuspendError`] when it can't be suspended.
    pub async fn suspend(&self, id: SandboxId, wait: Duration) -> Result<Sandbox, SuspendError> {
        let deadline = Instant::now() + wait;
        let sandbox = self.find(id.to_ref()).await?.ok_or(SuspendError::NotFound)?;
        if sandbox.name.is_none() {
            return Err(SuspendError::Ephemeral);
        }
        match sandbox.state {
            SandboxState::Suspended => return Ok(sandbox),
            SandboxState::Suspending => {}
            SandboxState::Running => {
                let work = tokio::spawn(Arc::clone(&self.inner).suspend(sandbox));
                // When it takes too long, or the server stops, the answer is the state.
                if let Ok(Ok(Err(failure))) = tokio::time::timeout_at(deadline, work).await {
                    return Err(if failure.refused {
                        SuspendError::Refused(failure.reason)
                    } else {
                        SuspendError::Unconfirmed(failure.reason)
                    });
                }
            }
            SandboxState::Pending | SandboxState::Snapshotting | SandboxState::Terminated => {
                return Err(SuspendError::NotRunning(crate::model::state_name(sandbox.state)));
            }
        }
        let done = |state| !matches!(state, SandboxState::Running | SandboxState::Suspending);
        self.wait_until(&id, deadline, done).await?.ok_or(SuspendError::NotFound)
    }

    /// Waits until a sandbox is in a state that will do, or `deadline`; returns it as it is then.
    ///
    /// # Errors
    /// The store can't be read.
    pub async fn wait_until(
        &self,
        id: &SandboxId,
        deadline: Instant,
        will_do: impl Fn(SandboxState) -> bool,
    ) -> Result<Option<Sandbox>> {
        let mut changes = self.changes.subscribe();
        loop {
            changes.mark_unchanged();
            let found = self.find(id.to_ref()).await?;
            let settled = found.as_ref().is_none_or(|sandbox| will_do(sandbox.state));
            if settled || tokio::time::timeout_at(deadline, changes.changed()).await.is_err() {
                return Ok(found);
            }
        }
    }

    /// Waits for the steps that are under way: starts, suspensions, resumes and stops.
    pub async fn idle(&self) {
        self.inner.locks.idle().await;
    }

    /// Stops everything that would not outlive the server.
    pub async fn shut_down(&self) {
        self.inner.runtime.shut_down().await;
    }
}

/// By sandbox.
type BySandbox<T> = HashMap<SandboxId, T>;
