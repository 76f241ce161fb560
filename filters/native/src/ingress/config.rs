//! One configuration of the filter, for all workers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use sandgate_engine::ingress::{Call, CallId, Metrics, TICK_MS};
use sandgate_policy::ingress::config::IngressConfig;

use super::worker::{Event, Post};
use crate::abi::{
    CalloutResponse, ConfigHandle, ConfigScheduler, Counter, LogLevel, MainThread, Refused, log,
};
use crate::time;

/// The name of the filter in Envoy's configuration.
const NAME: &[u8] = b"sandgate_ingress";

/// What all workers share.
pub(crate) struct Config {
    pub(super) ingress: IngressConfig,
    pub(super) metrics: Metrics<Counter>,
    /// The workers that have received a request.
    posts: Mutex<Vec<Arc<Post>>>,
    /// The calls that the main thread has to send.
    outbox: Mutex<Vec<(Arc<Post>, Call)>>,
    /// The calls in flight, by Envoy's number.
    calls: Mutex<BTreeMap<u64, (Arc<Post>, CallId)>>,
    /// Wakes the main thread. `None` after the end.
    scheduler: Mutex<Option<ConfigScheduler>>,
    is_tick_due: AtomicBool,
    watchers: AtomicU32,
}

/// Locks a mutex whose content is whole whenever no lock is held.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Config {
    /// `None` refuses the configuration.
    pub(crate) fn new(handle: &ConfigHandle, name: &[u8], json: &[u8]) -> Option<Arc<Self>> {
        if name != NAME {
            log(LogLevel::Error, "sandgate: this module has no filter of this name");
            return None;
        }
        let ingress = match IngressConfig::from_json(json) {
            Ok(config) => config,
            Err(error) => {
                let message = format!("sandgate_ingress: configuration refused: {error}");
                log(LogLevel::Error, &message);
                return None;
            }
        };
        Some(Arc::new(Self {
            ingress,
            metrics: Metrics::define(|name| handle.define_counter(name)),
            posts: Mutex::default(),
            outbox: Mutex::default(),
            calls: Mutex::default(),
            scheduler: Mutex::new(Some(handle.scheduler())),
            is_tick_due: AtomicBool::new(false),
            watchers: AtomicU32::new(0),
        }))
    }

    /// Envoy destroys the configuration. No stream uses it any more.
    pub(crate) fn end(&self) {
        drop(lock(&self.scheduler).take());
        lock(&self.posts).clear();
        lock(&self.outbox).clear();
        lock(&self.calls).clear();
    }

    pub(super) fn is_ended(&self) -> bool {
        lock(&self.scheduler).is_none()
    }

    /// Adds a worker. Ticks begin with the first one.
    pub(super) fn add(self: &Arc<Self>, post: Arc<Post>) {
        let mut posts = lock(&self.posts);
        posts.push(post);
        if posts.len() == 1 {
            let config = Arc::downgrade(self);
            let period = Duration::from_millis(TICK_MS);
            if time::repeat("sandgate-ticks", period, move || tick(&config)).is_err() {
                log(LogLevel::Error, "sandgate_ingress: no thread for ticks");
            }
        }
    }

    /// A number that no other worker of this configuration has.
    pub(super) fn next_watcher(&self) -> u32 {
        self.watchers.fetch_add(1, Ordering::Relaxed)
    }

    /// Lets the main thread send a call.
    pub(super) fn send(&self, post: Arc<Post>, call: Call) {
        lock(&self.outbox).push((post, call));
        self.wake();
    }

    /// Drops the calls of a worker, sent and unsent.
    pub(super) fn forget_calls(&self, post: &Post) {
        let is_other = |other: &Arc<Post>| !std::ptr::eq(Arc::as_ptr(other), post);
        lock(&self.outbox).retain(|(other, _)| is_other(other));
        lock(&self.calls).retain(|_, (other, _)| is_other(other));
    }

    fn wake(&self) {
        if let Some(scheduler) = &*lock(&self.scheduler) {
            scheduler.wake();
        }
    }

    /// Does what other threads have asked for.
    pub(crate) fn on_scheduled(&self, main: &MainThread) {
        let outbox = std::mem::take(&mut *lock(&self.outbox));
        for (post, call) in outbox {
            self.call(main, post, &call);
        }
        if self.is_tick_due.swap(false, Ordering::Relaxed) {
            let posts = lock(&self.posts).clone();
            for post in posts {
                post.deliver(self, main, Event::Tick);
            }
        }
    }

    fn call(&self, main: &MainThread, post: Arc<Post>, call: &Call) {
        let control_plane = self.ingress.control_plane();
        let mut headers = vec![
            (":method", call.method),
            (":authority", &control_plane.authority),
            (":path", &call.path),
            ("accept", "application/json"),
        ];
        if call.body.is_some() {
            headers.push(("content-type", "application/json"));
        }
        let body = call.body.as_deref().unwrap_or_default();
        match main.call(&control_plane.cluster, &headers, body, call.timeout) {
            Ok(number) => {
                lock(&self.calls).insert(number, (post, call.id));
            }
            Err(Refused) => post.deliver(self, main, Event::CallFailed(call.id)),
        }
    }

    pub(crate) fn on_callout_done(
        &self,
        main: &MainThread,
        number: u64,
        response: Option<CalloutResponse>,
    ) {
        let call = lock(&self.calls).remove(&number);
        if let Some((post, call)) = call {
            post.deliver(self, main, Event::CallDone(call, response));
        }
    }

    /// A hook of the configuration has panicked. Its workers go on.
    pub(crate) fn on_panic(&self, main: &MainThread) {
        main.count(*self.metrics.host_error());
    }
}

/// Wakes the main thread. Returns whether the configuration still exists.
fn tick(config: &Weak<Config>) -> bool {
    let config = config.upgrade().filter(|config| !config.is_ended());
    config.is_some_and(|config| {
        config.is_tick_due.store(true, Ordering::Relaxed);
        config.wake();
        true
    })
}
