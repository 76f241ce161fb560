//! What lives as long as Envoy: the ticks, and the calls to the control plane for all hubs.
//!
//! Envoy 1.40 destroys a configuration of a filter on the worker whose stream used it last, together with its calls, which belong
//! to the main thread: a configuration that made calls could not be replaced while Envoy runs. So the module's bootstrap
//! extension makes all calls. It lives on the main thread until Envoy ends.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use sandgate_engine::ingress::{
    Call, CallId, CallKind, CallResponse, HubEffect, Metrics, Now, TICK_MS,
};
use sandgate_policy::header::fields;
use sandgate_policy::ingress::config::IngressConfig;
use sandgate_policy::ingress::head::Head;

use super::post::Event;
use super::shared::{Shared, lock};
use crate::abi::{
    CalloutResponse, Counter, ExtensionHandle, LogLevel, MainScheduler, MainThread, Refused, Timer,
    log,
};
use crate::time;

/// The name of the bootstrap extension in Envoy's configuration.
const NAME: &[u8] = b"sandgate_ingress";
const TICK: Duration = Duration::from_millis(TICK_MS);

thread_local! {
    /// Envoy creates the bootstrap extension before all configurations of filters, on the same thread.
    static OF_MAIN_THREAD: RefCell<Weak<Process>> = const { RefCell::new(Weak::new()) };
}

/// The bootstrap extension. Only the main thread uses it.
pub(crate) struct Extension {
    process: Arc<Process>,
    timer: Timer,
}

impl Extension {
    /// `None` refuses the extension.
    pub(crate) fn new(handle: &ExtensionHandle, name: &[u8]) -> Option<Self> {
        if name != NAME {
            log(LogLevel::Error, "sandgate: this module has no bootstrap extension of this name");
            return None;
        }
        let process = Arc::new(Process::new(handle));
        OF_MAIN_THREAD.replace(Arc::downgrade(&process));
        let timer = handle.timer();
        timer.start(TICK);
        handle.signal_ready();
        Some(Self { process, timer })
    }

    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    pub(crate) fn on_timer(&self, main: &MainThread) {
        // First: the ticks go on after a panic.
        self.timer.start(TICK);
        self.process.on_tick(main);
    }
}

/// The part of the extension that all threads reach.
pub(crate) struct Process {
    metrics: Metrics<Counter>,
    hubs: Mutex<Vec<Arc<Shared>>>,
    /// The calls in flight, by Envoy's number.
    calls: Mutex<BTreeMap<u64, (Weak<Shared>, CallId)>>,
    /// Wakes the main thread. `None` after the end.
    scheduler: Mutex<Option<MainScheduler>>,
    /// Whether the main thread was woken, and has not begun yet.
    is_woken: AtomicBool,
    /// Whether Envoy has clusters.
    can_call: AtomicBool,
}

impl Process {
    fn new(handle: &ExtensionHandle) -> Self {
        Self {
            metrics: Metrics::define(|name| handle.define_counter(name)),
            hubs: Mutex::default(),
            calls: Mutex::default(),
            scheduler: Mutex::new(Some(handle.scheduler())),
            is_woken: AtomicBool::new(false),
            can_call: AtomicBool::new(false),
        }
    }

    /// The process whose main thread this is. `None` if Envoy's bootstrap does not have the extension, or Envoy ends.
    pub(super) fn of_main_thread() -> Option<Arc<Self>> {
        let process = OF_MAIN_THREAD.with_borrow(Weak::upgrade);
        process.filter(|process| lock(&process.scheduler).is_some())
    }

    /// The hub of all configurations of this text.
    pub(super) fn share(self: &Arc<Self>, ingress: IngressConfig, json: &[u8]) -> Arc<Shared> {
        let mut hubs = lock(&self.hubs);
        hubs.retain(|hub| !hub.is_ended());
        if let Some(known) = hubs.iter().find(|hub| hub.join(json)) {
            return Arc::clone(known);
        }
        let hub = Arc::new(Shared::new(Arc::clone(self), ingress, json));
        hubs.push(Arc::clone(&hub));
        hub
    }

    /// Envoy has its clusters.
    pub(crate) fn begin(&self) {
        self.can_call.store(true, Ordering::Release);
    }

    /// Envoy ends. From now on it has no clusters, and nothing is woken.
    pub(crate) fn end(&self) {
        self.can_call.store(false, Ordering::Release);
        drop(lock(&self.scheduler).take());
        lock(&self.calls).clear();
        lock(&self.hubs).clear();
    }

    /// Lets the main thread run the hubs.
    pub(super) fn wake(&self) {
        if !self.is_woken.swap(true, Ordering::AcqRel)
            && let Some(scheduler) = &*lock(&self.scheduler)
        {
            scheduler.wake();
        }
    }

    fn hubs(&self) -> Vec<Arc<Shared>> {
        let mut hubs = lock(&self.hubs);
        hubs.retain(|hub| !hub.is_ended());
        hubs.clone()
    }

    /// Does what other threads have asked for.
    pub(crate) fn on_scheduled(&self, main: &MainThread) {
        // Before the hubs run: whoever asks from now on asks again.
        self.is_woken.store(false, Ordering::Release);
        let now = time::now();
        for hub in self.hubs() {
            self.run(&hub, main, now);
        }
    }

    pub(crate) fn on_tick(&self, main: &MainThread) {
        // A panic may have lost what was to wake this thread.
        self.is_woken.store(false, Ordering::Release);
        let now = time::now();
        for shared in self.hubs() {
            let posts = shared.posts();
            // A hub without requests has no deadlines.
            if posts.is_empty() {
                continue;
            }
            shared.hub.on_tick(now);
            self.execute_effects(&shared, main, now);
            posts.iter().for_each(|post| post.put(Event::Tick));
            if let Some(warning) = shared.hub.warning() {
                log(LogLevel::Warn, &format!("sandgate_ingress: {warning}"));
            }
            self.run(&shared, main, now);
        }
    }

    fn run(&self, shared: &Arc<Shared>, main: &MainThread, now: Now) {
        shared.hub.run(now);
        self.execute_effects(shared, main, now);
    }

    /// Executes the effects of a hub.
    fn execute_effects(&self, shared: &Arc<Shared>, main: &MainThread, now: Now) {
        while let Some(effect) = shared.hub.next_effect() {
            match effect {
                HubEffect::Call(call) => self.call(shared, main, &call, now),
                HubEffect::CallFinished { kind, is_answered } => {
                    main.count(*self.metrics.call(kind, is_answered));
                    if !is_answered && kind != CallKind::Changes {
                        let message = "sandgate_ingress: the control plane did not answer a lookup";
                        log(LogLevel::Debug, message);
                    }
                }
                HubEffect::Notify(worker, notice) => {
                    if let Some(post) = shared.post_of(worker) {
                        post.put(Event::Notice(notice));
                    }
                }
                HubEffect::NotifyAll(notice) => {
                    let posts = shared.posts();
                    posts.iter().for_each(|post| post.put(Event::Notice(notice.clone())));
                }
                HubEffect::Run => self.wake(),
            }
        }
    }

    fn call(&self, shared: &Arc<Shared>, main: &MainThread, call: &Call, now: Now) {
        let control_plane = shared.ingress().control_plane();
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
        let number = if self.can_call.load(Ordering::Acquire) {
            main.call(&control_plane.cluster, &headers, body, call.timeout)
        } else {
            Err(Refused)
        };
        match number {
            Ok(number) => {
                lock(&self.calls).insert(number, (Arc::downgrade(shared), call.id));
            }
            Err(Refused) => shared.hub.on_call_failed(call.id, now),
        }
    }

    pub(crate) fn on_callout_done(
        &self,
        main: &MainThread,
        number: u64,
        response: Option<CalloutResponse>,
    ) {
        let Some((shared, call)) = lock(&self.calls).remove(&number) else { return };
        // The hub of a configuration that Envoy has replaced has no use for it, and makes no further calls.
        let Some(shared) = shared.upgrade().filter(|shared| !shared.is_ended()) else { return };
        let now = time::now();
        let parts = response.map(|CalloutResponse { headers, body }| (headers, body));
        let pairs = parts.as_ref().map(|(headers, _)| fields(headers));
        let response = parts.as_ref().zip(pairs.as_ref());
        let response =
            response.map(|((_, body), fields)| CallResponse { headers: Head::new(fields), body });
        shared.hub.on_call_response(call, response.as_ref(), now);
        self.run(&shared, main, now);
    }

    /// A hook of the extension has panicked, and may have lost an event or an effect of any worker. The hubs begin anew, and
    /// the engines repeat what they need.
    pub(crate) fn on_panic(&self, main: &MainThread) {
        main.count(*self.metrics.host_error());
        for shared in self.hubs() {
            shared.hub.begin_anew();
        }
        lock(&self.calls).clear();
        self.wake();
    }
}
