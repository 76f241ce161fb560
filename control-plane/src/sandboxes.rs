//! The lifecycle of sandboxes: the rules between the APIs, the store and the runtime.
//!
//! The calls of the runtime for one sandbox never overlap, also if several servers share the store. A call comes between two transitions in the store. Of
//! several attempts at the same transition, only one succeeds, even if several processes share the store. Work that
//! has begun continues when its caller is gone.

mod batch;
mod locks;
mod reports;
mod restore;
mod resume;
mod retries;
mod suspend;
mod transitions;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sandgate_policy::gateway_api::SandboxState;
use sandgate_policy::ids::SandboxRef;
use tokio::sync::oneshot;
use tokio::time::Instant;

use self::locks::SandboxLocks;
pub use self::reports::{Ignored, ReportError, ReportOutcome, ReportedEvent};
use self::resume::Resumes;
pub use self::resume::{ResumeError, ResumePolicy};
use self::retries::Retries;
pub use self::suspend::SuspendError;
use crate::changes::Propagation;
use crate::db::{Db, Writer};
use crate::denials::DenialReports;
use crate::metrics::{Measured, ResumeMetrics, RuntimeMetrics};
use crate::model::{NewSandbox, Sandbox, SandboxId, SandboxPatch, Timestamp};
use crate::runtime::{Failure, Runtime};
use crate::store::{Committed, Patched, Result};

/// Bounds on resumes and retries.
#[derive(Clone, Copy, Debug)]
pub struct ServiceSettings {
    /// The least time between two resumes of one sandbox by requests to public ports.
    pub public_resume_interval: Duration,
    /// The time after a failed resume in which requests begin no other one.
    pub failed_resume_pause: Duration,
    /// The longest time of one retry of a stop or a suspension.
    pub retry_timeout: Duration,
    /// The time in which a round begins retries. The remaining sandboxes come first in the next round.
    pub retry_round: Duration,
}

impl Default for ServiceSettings {
    fn default() -> Self {
        Self {
            public_resume_interval: Duration::from_secs(10),
            failed_resume_pause: Duration::from_secs(1),
            retry_timeout: Duration::from_secs(30),
            retry_round: Duration::from_secs(60),
        }
    }
}

/// All sandboxes of the deployment. Clones share them.
#[derive(Clone)]
pub struct SandboxService {
    inner: Arc<Inner>,
    /// Queries of this handle use its readers.
    propagation: Propagation,
}

struct Inner {
    db: Db,
    runtime: Arc<dyn Runtime>,
    settings: ServiceSettings,
    locks: SandboxLocks,
    resumes: Mutex<Resumes>,
    retries: tokio::sync::Mutex<Retries>,
    metrics: ResumeMetrics,
    runtime_metrics: RuntimeMetrics,
    denials: DenialReports,
}

/// A new sandbox, and the outcome of its start.
pub struct Starting {
    /// The sandbox as it was created.
    pub created: Committed<Sandbox>,
    /// Receives the outcome. Closes without one if the server stops before.
    pub started: oneshot::Receiver<std::result::Result<(), Failure>>,
}

impl SandboxService {
    /// The sandboxes of a store, in a runtime.
    #[must_use]
    pub fn new(
        propagation: Propagation,
        runtime: Arc<dyn Runtime>,
        settings: ServiceSettings,
    ) -> Self {
        let runtime_metrics = RuntimeMetrics::default();
        let runtime = Arc::new(Measured { runtime, metrics: runtime_metrics.clone() });
        Self {
            inner: Arc::new(Inner {
                db: propagation.db().clone(),
                runtime,
                metrics: ResumeMetrics::default(),
                denials: DenialReports::default(),
                runtime_metrics,
                settings,
                locks: SandboxLocks::new(propagation.db().clone()),
                resumes: Mutex::default(),
                retries: tokio::sync::Mutex::default(),
            }),
            propagation,
        }
    }

    /// The same sandboxes, through [`Db::with_own_readers`].
    #[must_use]
    pub fn with_own_readers(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), propagation: self.propagation.with_own_readers() }
    }

    #[must_use]
    pub fn db(&self) -> &Db {
        self.propagation.db()
    }

    /// The changes of the database.
    #[must_use]
    pub fn propagation(&self) -> &Propagation {
        &self.propagation
    }

    /// The counters of resumes and suspensions.
    #[must_use]
    pub fn metrics(&self) -> &ResumeMetrics {
        &self.inner.metrics
    }

    /// The denials that filters and sidecars have reported.
    #[must_use]
    pub fn denials(&self) -> &DenialReports {
        &self.inner.denials
    }

    /// The counters of the runtime's calls.
    #[must_use]
    pub fn runtime_metrics(&self) -> &RuntimeMetrics {
        &self.inner.runtime_metrics
    }

    /// The sandbox with an id or a name, in any project.
    ///
    /// # Errors
    /// The store can't be read.
    pub async fn find(&self, which: SandboxRef) -> Result<Option<Sandbox>> {
        self.db().read(move |store| store.sandbox(&which)).await
    }

    /// Creates a sandbox and begins to start it.
    ///
    /// # Errors
    /// Those of [`crate::store::Sandboxes::create_sandbox`].
    pub async fn create(&self, new: NewSandbox) -> Result<Starting> {
        let project = new.project_id.clone();
        let created = self
            .inner
            .db
            .write(Writer::Owner(project.as_str()), move |store| {
                store.create_sandbox(&new, Timestamp::now())
            })
            .await?;
        let inner = Arc::clone(&self.inner);
        let sandbox = created.value.clone();
        let (outcome, started) = oneshot::channel();
        // The caller may be gone before the start has ended.
        tokio::spawn(async move { drop(outcome.send(inner.start(sandbox).await)) });
        Ok(Starting { created, started })
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
            .write(Writer::Owner(sandbox.project_id.as_str()), move |store| {
                store.patch_sandbox(&id, &patch, &principal, Timestamp::now())
            })
            .await?;
        let made_public = patched.value.ports_made_public();
        if !made_public.is_empty() {
            let after = &patched.value.after;
            tracing::warn!(
                sandbox = %after.id,
                project = %after.project_id,
                ports = ?made_public,
                "ports that needed a credential are public now",
            );
        }
        Ok(patched)
    }

    /// Terminates a sandbox for all callers at once, and begins to stop it. Returns `None` if it does not
    /// exist.
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

    /// Waits until `is_expected` holds for the state of a sandbox, or until `deadline`. Returns the sandbox as
    /// it is then.
    ///
    /// # Errors
    /// The store can't be read.
    pub async fn wait_until(
        &self,
        id: &SandboxId,
        deadline: Instant,
        is_expected: impl Fn(SandboxState) -> bool,
    ) -> Result<Option<Sandbox>> {
        let mut changes = self.propagation.subscribe();
        loop {
            changes.mark_unchanged();
            let found = self.find(id.to_ref()).await?;
            let done = found.as_ref().is_none_or(|sandbox| is_expected(sandbox.state));
            if done || tokio::time::timeout_at(deadline, changes.changed()).await.is_err() {
                return Ok(found);
            }
        }
    }

    /// Waits until no transition is in progress.
    pub async fn wait_until_idle(&self) {
        self.inner.locks.wait_until_idle().await;
    }

    /// Stops all sandboxes that can't run without the server.
    pub async fn shut_down(&self) {
        self.inner.runtime.shut_down().await;
    }
}

type BySandbox<T> = HashMap<SandboxId, T>;
