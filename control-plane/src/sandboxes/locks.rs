//! One lock for each sandbox. A lock exists only while somebody holds it or waits for it. If several servers share the
//! store, a lock contains a claim in the store, which excludes the other servers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;

use super::BySandbox;
use crate::db::Db;
use crate::model::SandboxId;

/// The interval at which [`SandboxLocks::wait_until_idle`] polls. Only a stopping server waits for it, so
/// polling is good enough.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// The pause between two attempts to claim a sandbox.
const CLAIM_AGAIN: Duration = Duration::from_millis(50);
/// The pause after a failure of the store.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// The most attempts to release a claim. After them, the claim ends with this server.
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
        while self.db.is_shared() && !self.claim(id, &mut lock).await {
            tokio::time::sleep(CLAIM_AGAIN).await;
        }
        lock
    }

    /// Returns `None` if somebody has the lock.
    pub(super) async fn try_acquire(&self, id: &SandboxId) -> Option<SandboxLock> {
        let guard = self.local(id).try_lock_owned().ok()?;
        let mut lock = SandboxLock { guard: Some(guard), claim: None };
        let acquired = !self.db.is_shared() || self.claim(id, &mut lock).await;
        acquired.then_some(lock)
    }

    async fn claim(&self, id: &SandboxId, lock: &mut SandboxLock) -> bool {
        // A claim whose result does not arrive may have been made, so the lock releases it, too.
        lock.claim = Some((self.db.clone(), id.clone()));
        let claimed = id.clone();
        match self.db.coordinate(move |store| store.claim(&claimed)).await {
            Ok(true) => true,
            Ok(false) => {
                lock.claim = None;
                false
            }
            Err(error) => {
                tracing::error!(sandbox = %id, %error, "a sandbox can't be claimed");
                tokio::time::sleep(RETRY_AFTER).await;
                false
            }
        }
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
