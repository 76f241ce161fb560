//! One lock for each sandbox. A lock exists only while somebody holds it or waits for it. If several servers share the
//! store, a lock contains a claim in the store, which excludes the other servers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;

use super::BySandbox;
use crate::db::Db;
use crate::model::SandboxId;
use crate::store::Result;

/// The interval at which [`SandboxLocks::wait_until_idle`] polls. Only a stopping server waits for it, so
/// polling is good enough.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// The pause between two attempts to claim a sandbox.
const CLAIM_AGAIN: Duration = Duration::from_millis(50);
/// The pause after a failure of the store.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// The most attempts to release a claim. After them, [`SandboxLocks::release_unheld`] releases it.
const RELEASE_ATTEMPTS: usize = 20;

pub(super) struct SandboxLocks {
    db: Db,
    locks: Mutex<BySandbox<Arc<tokio::sync::Mutex<()>>>>,
}

/// The right to call the runtime for a sandbox.
pub(super) struct SandboxLock {
    /// Excludes the other tasks of this process.
    guard: Option<OwnedMutexGuard<()>>,
    /// The claim that excludes other servers.
    claim: Option<(Db, SandboxId)>,
}

impl SandboxLocks {
    pub(super) fn new(db: Db) -> Self {
        Self { db, locks: Mutex::default() }
    }

    pub(super) async fn acquire(&self, id: &SandboxId) -> SandboxLock {
        let guard = self.local(id).lock_owned().await;
        let mut lock = SandboxLock { guard: Some(guard), claim: None };
        let mut acquired = !self.db.is_shared();
        while !acquired {
            (lock, acquired) = self.claim(id, lock).await;
            if !acquired {
                tokio::time::sleep(CLAIM_AGAIN).await;
            }
        }
        lock
    }

    /// Returns `None` if somebody has the lock.
    pub(super) async fn try_acquire(&self, id: &SandboxId) -> Option<SandboxLock> {
        let guard = self.local(id).try_lock_owned().ok()?;
        let lock = SandboxLock { guard: Some(guard), claim: None };
        if !self.db.is_shared() {
            return Some(lock);
        }
        let (lock, acquired) = self.claim(id, lock).await;
        acquired.then_some(lock)
    }

    /// Tries once to claim a sandbox. Returns whether this server has the claim. The attempt is a task of its own, which
    /// ends even if the caller gives up: a claim must not be released while it is being made.
    async fn claim(&self, id: &SandboxId, lock: SandboxLock) -> (SandboxLock, bool) {
        match tokio::spawn(claim(self.db.clone(), id.clone(), lock)).await {
            Ok(attempted) => attempted,
            // The program ends, and so does this task.
            Err(_) => std::future::pending().await,
        }
    }

    /// Releases claims of this server that nobody holds here. After an outage of the store, claims may be left that could
    /// not be released, or were made although the store reported a failure.
    pub(super) async fn release_unheld(&self) -> Result<()> {
        for id in self.db.coordinate(|store| store.own_claims()).await? {
            // With the local lock, no task of this process claims the sandbox meanwhile.
            let Ok(_guard) = self.local(&id).try_lock_owned() else { continue };
            tracing::warn!(sandbox = %id, "releasing a claim that nobody holds");
            self.db.coordinate(move |store| store.release(&id)).await?;
        }
        Ok(())
    }

    fn local(&self, id: &SandboxId) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.lock();
        // If the map has the only reference, nobody holds the lock or waits for it.
        locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        Arc::clone(locks.entry(id.clone()).or_default())
    }

    /// Waits until nobody holds a lock or waits for one.
    pub(super) async fn wait_until_idle(&self) {
        while self.lock().values().any(|lock| Arc::strong_count(lock) > 1) {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, BySandbox<Arc<tokio::sync::Mutex<()>>>> {
        self.locks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn claim(db: Db, id: SandboxId, mut lock: SandboxLock) -> (SandboxLock, bool) {
    // A claim whose result does not arrive may have been made, so the lock releases it, too.
    lock.claim = Some((db.clone(), id.clone()));
    let claimed = id.clone();
    match db.coordinate(move |store| store.claim(&claimed)).await {
        Ok(true) => (lock, true),
        Ok(false) => {
            lock.claim = None;
            (lock, false)
        }
        Err(error) => {
            tracing::error!(sandbox = %id, %error, "a sandbox can't be claimed");
            tokio::time::sleep(RETRY_AFTER).await;
            (lock, false)
        }
    }
}

impl Drop for SandboxLock {
    fn drop(&mut self) {
        let Some((db, id)) = self.claim.take() else { return };
        let guard = self.guard.take();
        // Outside a runtime, the server has ended, and its claims end with it.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            for _ in 0..RELEASE_ATTEMPTS {
                let released = id.clone();
                match db.coordinate(move |store| store.release(&released)).await {
                    Ok(()) => break,
                    Err(error) => {
                        tracing::error!(sandbox = %id, %error, "the claim of a sandbox can't be released");
                    }
                }
                tokio::time::sleep(RETRY_AFTER).await;
            }
            // The next task of this process has the same claim, so it must not begin before.
            drop(guard);
        });
    }
}
