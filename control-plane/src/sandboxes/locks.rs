//! One lock for each sandbox, kept only while someone holds or awaits it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;

use super::BySandbox;
use crate::model::SandboxId;

/// Nothing tells when a lock is released, and nobody waits for that but a server that stops.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Locks by sandbox.
#[derive(Default)]
pub(super) struct KeyedLocks {
    locks: Mutex<BySandbox<Arc<tokio::sync::Mutex<()>>>>,
}

impl KeyedLocks {
    /// Waits for the sandbox's turn.
    pub(super) async fn acquire(&self, id: &SandboxId) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.lock();
            // One reference is the map's own: nobody else is there any more.
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            Arc::clone(locks.entry(id.clone()).or_default())
        };
        lock.lock_owned().await
    }

    /// Waits until nobody holds or awaits a lock.
    pub(super) async fn idle(&self) {
        while self.lock().values().any(|lock| Arc::strong_count(lock) > 1) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, BySandbox<Arc<tokio::sync::Mutex<()>>>> {
        self.locks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
