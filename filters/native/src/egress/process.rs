//! What all workers share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sandgate_engine::egress::{Configurations, FilterKind};

use super::worker::Anchor;
use crate::abi::{LogLevel, log};

/// The two filters have one state in a process: a configuration of either is active for both, also for the streams that
/// began under an earlier one.
pub(super) static PROCESS: Process = Process {
    version: AtomicU64::new(0),
    configurations: Mutex::new(Configurations::EMPTY),
    workers: Mutex::new(Vec::new()),
};

pub(super) struct Process {
    /// Increases with each change of the configurations.
    version: AtomicU64,
    configurations: Mutex<Configurations>,
    workers: Mutex<Vec<Arc<Post>>>,
}

/// The part of a worker that the main thread reaches: what wakes it, if it has live streams. Envoy wakes a worker only for a
/// stream.
#[derive(Default)]
pub(super) struct Post(Mutex<Option<Anchor>>);

impl Post {
    pub(super) fn anchor(&self) -> MutexGuard<'_, Option<Anchor>> {
        lock(&self.0)
    }

    /// Holds the lock meanwhile, so that the anchor's connection is not destroyed: it can't leave its worker.
    pub(super) fn wake(&self) {
        if let Some(anchor) = &*self.anchor() {
            anchor.wake();
        }
    }
}

/// Locks a mutex whose content is whole whenever no lock is held.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Process {
    /// Takes a configuration, on the main thread. Returns the policy generation that is active then, or `None` if the
    /// configuration is refused.
    pub(super) fn configure(&self, kind: FilterKind, json: &[u8]) -> Option<u64> {
        let mut configurations = lock(&self.configurations);
        // A panic leaves the configurations as they are.
        let mut changed = configurations.clone();
        let update = match changed.configure(kind, json.to_owned()) {
            Ok(update) => update,
            Err(error) => {
                let message = format!("sandgate_egress: configuration refused: {error}");
                log(LogLevel::Error, &message);
                return None;
            }
        };
        if let sandgate_engine::egress::Update::Outdated(generation) = update {
            let message = format!(
                "sandgate_egress: generation {generation} is outdated: a later one is already active"
            );
            log(LogLevel::Warn, &message);
        }
        let generation = changed.active_generation();
        *configurations = changed;
        self.version.fetch_add(1, Ordering::Release);
        drop(configurations);
        for worker in &*lock(&self.workers) {
            worker.wake();
        }
        generation
    }

    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The configurations, and their version.
    pub(super) fn configurations(&self) -> (u64, Configurations) {
        let configurations = lock(&self.configurations);
        (self.version(), configurations.clone())
    }

    pub(super) fn add(&self, worker: Arc<Post>) {
        lock(&self.workers).push(worker);
    }
}
