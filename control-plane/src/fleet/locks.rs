//! One lock for each sandbox, kept only while someone holds or awaits it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OwnedMutexGuard;

use super::BySandbox;
use crate::model::SandboxId;

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

    fn lock(&self) -> MutexGuard<'_, BySandbox<Arc<tokio::sync::Mutex<()>>>> {
        self.locks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
