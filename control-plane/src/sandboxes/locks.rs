//! One lock for each sandbox. A lock exists only while somebody holds it or waits for it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;

use super::BySandbox;
use crate::model::SandboxId;

/// The interval at which [`SandboxLocks::wait_until_idle`] polls. Only a stopping server waits for it, so
/// polling is good enough.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

#[derive(Default)]
pub(super) struct SandboxLocks {
    locks: Mutex<BySandbox<Arc<tokio::sync::Mutex<()>>>>,
}

impl SandboxLocks {
    pub(super) async fn acquire(&self, id: &SandboxId) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.lock();
            // If the map has the only reference, nobody holds the lock or waits for it.
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            Arc::clone(locks.entry(id.clone()).or_default())
        };
        lock.lock_owned().await
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
