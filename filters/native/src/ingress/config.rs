//! One configuration of the filter, for all workers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use sandgate_engine::ingress::{
    Call, CallId, CallKind, CallResponse, Hub, HubEffect, Metrics, Now, TICK_MS, WorkerId,
};
use sandgate_policy::header::fields;
use sandgate_policy::ingress::config::IngressConfig;
use sandgate_policy::ingress::head::Head;

use super::post::{Event, Post};
use crate::abi::{
    CalloutResponse, ConfigHandle, ConfigScheduler, Counter, LogLevel, MainThread, Refused, log,
};
use crate::time;

/// The name of the filter in Envoy's configuration.
const NAME: &[u8] = b"sandgate_ingress";

/// What all workers share. Envoy's main thread drives the hub, because only it can send calls that belong to no stream.
pub(crate) struct Config {
    pub(super) ingress: IngressConfig,
    pub(super) hub: Arc<Hub>,
    pub(super) metrics: Metrics<Counter>,
    /// The workers that have received a request.
    posts: Mutex<Vec<Arc<Post>>>,
    /// The calls in flight, by Envoy's number.
    calls: Mutex<BTreeMap<u64, CallId>>,
    /// Wakes the main thread. `None` after the end. It is used without the lock, because Envoy may destroy the configuration
    /// before it returns.
    scheduler: Mutex<Option<Arc<ConfigScheduler>>>,
    /// Whether the main thread was woken, and has not begun yet.
    is_woken: AtomicBool,
    is_tick_due: AtomicBool,
}

/// The number of hubs that this process has started.
static STARTED: AtomicU32 = AtomicU32::new(0);

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
        let config = Arc::new(Self {
            hub: Arc::new(Hub::new(ingress.clone())),
            ingress,
            metrics: Metrics::define(|name| handle.define_counter(name)),
            posts: Mutex::default(),
            calls: Mutex::default(),
            scheduler: Mutex::new(Some(Arc::new(handle.scheduler()))),
            is_woken: AtomicBool::new(false),
            is_tick_due: AtomicBool::new(false),
        });
        // Without ticks, the engines can't enforce deadlines.
        let (weak, period) = (Arc::downgrade(&config), Duration::from_millis(TICK_MS));
        if time::repeat("sandgate-ticks", period, move || tick(&weak)).is_err() {
            log(LogLevel::Error, "sandgate_ingress: configuration refused: no thread for ticks");
            return None;
        }
        Some(config)
    }

    /// Envoy destroys the configuration. No stream uses it any more.
    pub(crate) fn end(&self) {
        drop(lock(&self.scheduler).take());
        lock(&self.posts).clear();
        lock(&self.calls).clear();
    }

    pub(super) fn is_ended(&self) -> bool {
        lock(&self.scheduler).is_none()
    }

    /// Adds a worker.
    pub(super) fn add(&self, post: Arc<Post>) {
        lock(&self.posts).push(post);
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
        if !self.is_woken.swap(true, Ordering::AcqRel) {
            self.schedule();
        }
    }

    fn schedule(&self) {
        let scheduler = lock(&self.scheduler).clone();
        if let Some(scheduler) = scheduler {
            scheduler.wake();
        }
    }

    /// Does what other threads have asked for.
    pub(crate) fn on_scheduled(&self, main: &MainThread) {
        // Before the hub runs: whoever asks from now on asks again.
        self.is_woken.store(false, Ordering::Release);
        let now = time::now();
        if self.is_tick_due.swap(false, Ordering::AcqRel) {
            self.hub.on_tick(now);
            self.execute_effects(main, now);
            let posts = lock(&self.posts).clone();
            posts.iter().for_each(|post| post.put(Event::Tick));
            if let Some(warning) = self.hub.warning() {
                log(LogLevel::Warn, &format!("sandgate_ingress: {warning}"));
            }
        }
        self.run(main, now);
    }

    fn run(&self, main: &MainThread, now: Now) {
        self.hub.run(now);
        self.execute_effects(main, now);
    }

    /// Executes the effects of the hub.
    fn execute_effects(&self, main: &MainThread, now: Now) {
        while let Some(effect) = self.hub.next_effect() {
            match effect {
                HubEffect::Call(call) => self.call(main, &call, now),
                HubEffect::CallFinished { kind, is_answered } => {
                    main.count(*self.metrics.call(kind, is_answered));
                    if !is_answered && kind != CallKind::Changes {
                        let message = "sandgate_ingress: the control plane did not answer a lookup";
                        log(LogLevel::Debug, message);
                    }
                }
                HubEffect::Notify(worker, notice) => {
                    if let Some(post) = self.post_of(worker) {
                        post.put(Event::Notice(notice));
                    }
                }
                HubEffect::NotifyAll(notice) => {
                    let posts = lock(&self.posts).clone();
                    posts.iter().for_each(|post| post.put(Event::Notice(notice.clone())));
                }
                HubEffect::Run => self.wake(),
            }
        }
    }

    fn post_of(&self, worker: WorkerId) -> Option<Arc<Post>> {
        lock(&self.posts).iter().find(|post| post.worker() == worker).map(Arc::clone)
    }

    fn call(&self, main: &MainThread, call: &Call, now: Now) {
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
                lock(&self.calls).insert(number, call.id);
            }
            Err(Refused) => self.hub.on_call_failed(call.id, now),
        }
    }

    pub(crate) fn on_callout_done(
        &self,
        main: &MainThread,
        number: u64,
        response: Option<CalloutResponse>,
    ) {
        let Some(call) = lock(&self.calls).remove(&number) else { return };
        let now = time::now();
        let parts = response.map(|CalloutResponse { headers, body }| (headers, body));
        let pairs = parts.as_ref().map(|(headers, _)| fields(headers));
        let response = parts.as_ref().zip(pairs.as_ref());
        let response =
            response.map(|((_, body), fields)| CallResponse { headers: Head::new(fields), body });
        self.hub.on_call_response(call, response.as_ref(), now);
        self.run(main, now);
    }

    /// A hook of the configuration has panicked, and may have lost an event or an effect of any worker. The hub begins
    /// anew, and the engines repeat what they need.
    pub(crate) fn on_panic(&self, main: &MainThread) {
        main.count(*self.metrics.host_error());
        self.hub.begin_anew();
        lock(&self.calls).clear();
        self.wake();
    }
}

/// Wakes the main thread. Returns whether the configuration still exists.
fn tick(config: &Weak<Config>) -> bool {
    let config = config.upgrade().filter(|config| !config.is_ended());
    config.is_some_and(|config| {
        // A configuration without requests has no deadlines.
        if !lock(&config.posts).is_empty() {
            config.is_tick_due.store(true, Ordering::Release);
            config.schedule();
        }
        true
    })
}
