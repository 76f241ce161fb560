//! What all workers share, for all configurations of the same text.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sandgate_engine::ingress::{Hub, WorkerId};
use sandgate_policy::ingress::config::IngressConfig;

use super::post::Post;
use super::process::Process;
use crate::time;

/// A hub, the inboxes of its workers, and the number of configurations that use it.
pub(super) struct Shared {
    pub(super) hub: Arc<Hub>,
    process: Arc<Process>,
    json: Vec<u8>,
    /// 0 is the end: nothing uses the hub any more, and a new configuration gets a new one.
    configs: Mutex<usize>,
    /// The workers that have received a request.
    posts: Mutex<Vec<Arc<Post>>>,
}

/// The number of hubs that this process has started.
static STARTED: AtomicU32 = AtomicU32::new(0);
/// The number of hubs that have ended.
static ENDED: AtomicUsize = AtomicUsize::new(0);

/// Locks a mutex whose content is whole whenever no lock is held.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// A hub with one configuration.
    pub(super) fn new(process: Arc<Process>, ingress: IngressConfig, json: &[u8]) -> Self {
        Self {
            hub: Arc::new(Hub::new(ingress)),
            process,
            json: json.to_owned(),
            configs: Mutex::new(1),
            posts: Mutex::default(),
        }
    }

    pub(super) fn ingress(&self) -> &IngressConfig {
        self.hub.config()
    }

    /// Adds a configuration. Returns false if its text is another one, or the hub has ended.
    pub(super) fn join(&self, json: &[u8]) -> bool {
        let mut configs = lock(&self.configs);
        let joins = *configs > 0 && self.json == json;
        *configs += usize::from(joins);
        joins
    }

    /// A configuration ends, on any thread. The hub ends with the last one.
    pub(super) fn leave(&self) {
        let mut configs = lock(&self.configs);
        *configs = configs.saturating_sub(1);
        if *configs == 0 {
            lock(&self.posts).clear();
            // With the lock: a thread that sees the new number finds the hub ended.
            ENDED.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The number of hubs that have ended.
    pub(super) fn ended() -> usize {
        ENDED.load(Ordering::Relaxed)
    }

    pub(super) fn is_ended(&self) -> bool {
        *lock(&self.configs) == 0
    }

    /// Adds a worker.
    pub(super) fn add(&self, post: Arc<Post>) {
        lock(&self.posts).push(post);
    }

    pub(super) fn posts(&self) -> Vec<Arc<Post>> {
        lock(&self.posts).clone()
    }

    pub(super) fn post_of(&self, worker: WorkerId) -> Option<Arc<Post>> {
        lock(&self.posts).iter().find(|post| post.worker() == worker).map(Arc::clone)
    }

    /// Starts the hub, with the first request.
    pub(super) fn start(&self) {
        let since_epoch = time::since_epoch().unwrap_or_default();
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        self.hub.start(format!("{:x}-{number}-native", since_epoch.as_nanos()));
        self.wake();
    }

    /// Lets the main thread run the hub.
    pub(super) fn wake(&self) {
        self.process.wake();
    }
}
