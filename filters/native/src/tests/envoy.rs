//! A host of the module without Envoy: a model of Envoy's streams, header maps, filter state, calls, and schedulers.
//!
//! It defines the callbacks of the ABI as symbols of the test program, and calls the hooks of the module as Envoy does. Its
//! API is that of `sandgate_wasm_host`, so that the tests of the wasm form run here, too.
//!
//! `abi` is the ABI, `host` the state, and `stream` the life of a stream. `Envoy` is used by callbacks, and [`Host`] by tests.
//!
//! - A reply, a reset, and a continued request call hooks before they return, and destroy the stream inside of them.
//! - A call to an object that is gone, a second reply, and a request that is continued twice fail the test.
//! - Each callback can be refused, or can panic ([`Host::inject`]).

mod abi;
mod host;
mod stream;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use self::abi::extension;
use self::abi::hooks::{self, Hook};
pub(crate) use self::abi::network;
use self::host::{ConfigState, Envoy, PendingCall, Progress, Target};
pub(crate) use self::host::{Injected, monotonic, since_epoch};
pub(crate) use sandgate_wasm_host::{
    Answer, Attributes, Call, Forwarded, Headers, Log, LogLevel, Outcome, Refused, Reply,
};
use sandgate_wasm_host::{Reaction, timed_out};

/// Whether the workers of one Envoy share the caches, the lookups, and the change feed.
pub(crate) const WORKERS_SHARE_A_HUB: bool = true;
/// The maximum number of events without a pause. No test needs more, so the module is in an endless loop.
const MAX_EVENTS: usize = 1_000_000;
/// The name of the filter in `edge-native.yaml`.
const FILTER: &str = "sandgate_ingress";
/// The name of the bootstrap extension there.
const EXTENSION: &[u8] = b"sandgate_ingress";

type Work = Box<dyn FnOnce() + Send>;
type ControlPlane = Box<dyn FnMut(&Call) -> Answer>;

/// An Envoy with one filter. Clones are the same Envoy.
#[derive(Clone)]
pub(crate) struct Host(Rc<Inner>);

struct Inner {
    envoy: Arc<Envoy>,
    control_plane: RefCell<ControlPlane>,
    /// The threads of all workers but the first.
    workers: Vec<Sender<Work>>,
    threads: RefCell<Vec<std::thread::JoinHandle<()>>>,
}

/// A request that a test sent.
#[derive(Clone)]
pub(crate) struct Stream {
    host: Host,
    id: usize,
}

impl Host {
    /// Creates an Envoy with this number of workers, whose control plane refuses connections.
    pub(crate) fn load_with_workers(_filter: &str, workers: usize) -> Self {
        let host = Self::without_extension(workers);
        assert!(host.add_extension(EXTENSION), "the bootstrap extension is accepted");
        host
    }

    /// Creates an Envoy whose bootstrap does not have the module's extension.
    pub(crate) fn without_extension(workers: usize) -> Self {
        let spawn = |_| {
            let (sender, receiver) = channel::<Work>();
            let thread = std::thread::spawn(move || receiver.into_iter().for_each(|work| work()));
            (sender, thread)
        };
        let (workers, threads) = (1..workers).map(spawn).unzip();
        Self(Rc::new(Inner {
            envoy: Arc::default(),
            control_plane: RefCell::new(Box::new(|_| Answer::connection_refused())),
            workers,
            threads: RefCell::new(threads),
        }))
    }

    /// Creates the bootstrap extension. Returns whether the module accepts it.
    pub(crate) fn add_extension(&self, name: &[u8]) -> bool {
        let envoy = self.envoy();
        let id = envoy.register();
        let module = envoy.enter(|| extension::new(id, name));
        if module != 0 {
            envoy.state().extension = Some((id, module));
            envoy.enter(|| extension::begin(id, module));
            assert!(envoy.state().is_ready, "Envoy would never accept connections");
        }
        module != 0
    }

    /// Envoy begins to end: it has no clusters any more.
    pub(crate) fn shut_down(&self) {
        self.envoy().shut_down();
        self.check();
    }

    fn envoy(&self) -> &Arc<Envoy> {
        &self.0.envoy
    }

    /// Runs `work` on the thread of a worker, and waits for its end.
    fn on_worker<T: Send + 'static>(
        &self,
        worker: usize,
        work: impl FnOnce(&Arc<Envoy>) -> T + Send + 'static,
    ) -> T {
        let result = match worker.checked_sub(1).and_then(|index| self.0.workers.get(index)) {
            None => work(self.envoy()),
            Some(thread) => {
                let (sender, receiver) = channel();
                let envoy = Arc::clone(self.envoy());
                let work = move || drop(sender.send(work(&envoy)));
                thread.send(Box::new(work)).expect("the worker runs");
                receiver.recv().expect("the worker has not panicked outside of all hooks")
            }
        };
        self.release_configs(worker);
        self.check();
        result
    }

    /// Fails the test if the module did something that is an error in Envoy.
    fn check(&self) {
        let faults = std::mem::take(&mut self.envoy().state().faults);
        assert!(faults.is_empty(), "{faults:#?}");
    }

    /// Destroys the configurations that no stream uses any more, on the thread that gave up the last reference.
    fn release_configs(&self, worker: usize) {
        for unused in self.envoy().take_unused_configs() {
            self.on_worker(worker, move |envoy| envoy.destroy_config(unused));
        }
    }

    /// Applies a configuration to the filter.
    pub(crate) fn configure(&self, configuration: &str) -> Result<(), Refused> {
        self.configure_filter(FILTER, configuration)
    }

    pub(crate) fn configure_filter(&self, name: &str, configuration: &str) -> Result<(), Refused> {
        let envoy = self.envoy();
        let before = envoy.state().logs.len();
        let id = envoy.register();
        let module =
            envoy.enter(|| hooks::new_config(id, name.as_bytes(), configuration.as_bytes()));
        if module == 0 {
            return Err(Refused { logs: envoy.state().logs.split_off(before) });
        }
        let mut state = envoy.state();
        state.configs.values_mut().for_each(|config| config.is_current = false);
        state.configs.insert(id, ConfigState { module, is_current: true, streams: 0 });
        drop(state);
        self.release_configs(0);
        self.check();
        Ok(())
    }

    /// Removes the filter from the configuration. Its streams go on.
    pub(crate) fn remove_filter(&self) {
        self.envoy().state().configs.values_mut().for_each(|config| config.is_current = false);
        self.release_configs(0);
    }

    /// Sets the function that responds to the filter's calls.
    pub(crate) fn control_plane(&self, answer: impl FnMut(&Call) -> Answer + 'static) {
        *self.0.control_plane.borrow_mut() = Box::new(answer);
    }

    /// Sets the clusters that exist.
    pub(crate) fn clusters(&self, names: &[&str]) {
        self.envoy().state().clusters = Some(names.iter().map(|name| (*name).to_owned()).collect());
    }

    /// Sets the circuit breaker.
    pub(crate) fn max_calls(&self, calls: usize) {
        self.envoy().state().max_calls = Some(calls);
    }

    /// Injects a failure into a callback: 1 is the next one.
    pub(crate) fn inject(&self, at: usize, what: Injected) {
        let mut state = self.envoy().state();
        let at = state.callbacks + at;
        state.injection = Some((at, what));
        state.injected = None;
    }

    /// Injects no failure that has not been injected yet.
    pub(crate) fn end_injection(&self) {
        self.envoy().state().injection = None;
    }

    /// The callback into which a failure was injected.
    pub(crate) fn injected(&self) -> Option<&'static str> {
        self.envoy().state().injected
    }

    /// The number of callbacks so far that a failure could be injected into.
    pub(crate) fn callbacks(&self) -> usize {
        self.envoy().state().callbacks
    }

    /// Sets whether an ended stream is destroyed later ([`Self::destroy_ended`]) and not inside of the hook that ended it.
    pub(crate) fn destroys_later(&self, later: bool) {
        self.envoy().state().destroys_later = later;
    }

    /// Destroys the streams that have ended.
    pub(crate) fn destroy_ended(&self) {
        let ended = std::mem::take(&mut self.envoy().state().to_destroy);
        for id in ended {
            let stream = Stream { host: self.clone(), id };
            stream.act(Envoy::destroy);
        }
    }

    /// Sets the response that the upstream of a continued request sends before the callback returns.
    pub(crate) fn responds_immediately(&self, headers: Option<Headers>) {
        self.envoy().state().immediate_response = headers;
    }

    /// Sends a request to the first worker.
    pub(crate) fn request(&self, headers: Headers) -> Stream {
        self.request_at(0, headers)
    }

    /// Sends a request to a worker. The first worker is 0.
    pub(crate) fn request_at(&self, worker: usize, headers: Headers) -> Stream {
        self.request_of("", worker, headers, Attributes::new())
    }

    /// Sends a request with these attributes.
    pub(crate) fn request_of(
        &self,
        _root_id: &str,
        worker: usize,
        headers: Headers,
        attributes: Attributes,
    ) -> Stream {
        let current = {
            let state = self.envoy().state();
            state.configs.iter().find(|(_, config)| config.is_current).map(|(id, _)| *id)
        };
        let config = current.expect("the filter has a configuration");
        let id =
            self.on_worker(worker, move |envoy| envoy.begin(config, worker, headers, attributes));
        Stream { host: self.clone(), id }
    }

    /// Processes all pending events. The clock does not advance.
    pub(crate) fn run(&self) {
        self.deliver(|call| matches!(call.progress, Progress::Held(_)));
        for _ in 0..MAX_EVENTS {
            if !self.run_once() {
                return;
            }
        }
        panic!("the module does not come to rest");
    }

    /// Processes one pending event. Returns whether there was one.
    pub(crate) fn run_once(&self) -> bool {
        let scheduled = self.envoy().state().scheduled.pop_front();
        if let Some((target, event)) = scheduled {
            match target {
                Target::Stream(id) => self.wake_stream(id),
                Target::Main => self.on_main(|id, module| extension::scheduled(id, module, event)),
            }
            return true;
        }
        self.deliver(|call| matches!(call.progress, Progress::Sent)) || self.deliver_response()
    }

    /// A stream that has ended is not woken.
    fn wake_stream(&self, id: usize) {
        let worker = self.envoy().state().streams.get(&id).map(|stream| stream.worker);
        if let Some(worker) = worker {
            self.on_worker(worker, move |envoy| envoy.wake(id));
        }
    }

    /// Calls a hook of the bootstrap extension, if it exists.
    fn on_main(&self, hook: impl FnOnce(usize, usize)) {
        let extension = self.envoy().state().extension;
        if let Some((id, module)) = extension {
            self.envoy().enter(|| hook(id, module));
        }
        self.check();
    }

    /// Advances the clock by `time`, and processes all events in between.
    pub(crate) fn advance(&self, time: Duration) {
        let target = self.envoy().state().clock + time;
        self.run();
        while let Some(next) = self.next_event().filter(|next| *next <= target) {
            self.envoy().state().clock = next;
            self.deliver(|call| matches!(call.progress, Progress::Held(until) if until <= next));
            self.fire_timers(next);
            while self.run_once() {}
        }
        self.envoy().state().clock = target;
        self.run();
    }

    fn fire_timers(&self, now: Duration) {
        let due: Vec<usize> = {
            let mut state = self.envoy().state();
            let is_due = |due: &mut Option<Duration>| due.take_if(|due| *due <= now).is_some();
            let timers = state.timers.iter_mut();
            timers.filter_map(|(timer, due)| is_due(due).then_some(*timer)).collect()
        };
        for timer in due {
            self.on_main(|id, module| extension::timer_fired(id, module, timer));
        }
    }

    /// The time of the next event that is not caused by a test.
    fn next_event(&self) -> Option<Duration> {
        let state = self.envoy().state();
        let held = state.pending.iter().filter_map(|call| match call.progress {
            Progress::Held(until) if until > state.clock => Some(until),
            _ => None,
        });
        let calls = state.pending.iter().map(due).chain(held);
        state.timers.values().flatten().copied().chain(calls).min()
    }

    /// Passes calls to the control plane.
    fn deliver(&self, which: impl Fn(&PendingCall) -> bool) -> bool {
        let (now, calls) = {
            let state = self.envoy().state();
            let now = state.clock;
            let passed = |pending: &PendingCall| {
                let waited = now.saturating_sub(pending.call.sent_at);
                (pending.id, Call { waited, ..pending.call.clone() })
            };
            let calls: Vec<_> =
                state.pending.iter().filter(|call| which(call)).map(passed).collect();
            (now, calls)
        };
        for (id, call) in &calls {
            let (reaction, delay) = (self.0.control_plane.borrow_mut())(call).into_parts();
            let at = now + delay;
            let progress = match reaction {
                Reaction::Respond(response) => Progress::Answered(at, Some(response)),
                Reaction::Broken => Progress::Answered(at, None),
                Reaction::Hold => Progress::Held(call.sent_at + delay),
                Reaction::Silence => Progress::Silent,
            };
            let mut state = self.envoy().state();
            if let Some(pending) = state.pending.iter_mut().find(|call| call.id == *id) {
                pending.progress = progress;
            }
        }
        !calls.is_empty()
    }

    /// Delivers the response that is due first.
    fn deliver_response(&self) -> bool {
        let mut state = self.envoy().state();
        let now = state.clock;
        let first = state.pending.iter().enumerate().map(|(index, call)| (due(call), index));
        let Some((at, index)) = first.filter(|(due, _)| *due <= now).min() else { return false };
        let call = state.pending.remove(index);
        drop(state);
        let response = match call.progress {
            Progress::Answered(answered, response) if answered <= at => response,
            _ => Some(timed_out()),
        };
        let response = response.as_ref().map(|response| (response.headers(), response.body()));
        self.on_main(|id, module| extension::callout_done(id, module, call.id, response));
        true
    }

    /// Sets the wall clock back. Intervals are not affected.
    pub(crate) fn set_clock_back(&self, by: Duration) {
        self.envoy().state().set_back += by;
    }

    /// The wall clock in seconds since the Unix epoch.
    pub(crate) fn unix_time(&self) -> u64 {
        self.envoy().wall_clock().as_secs()
    }

    /// The value of a counter, or 0 if the module did not define it.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let state = self.envoy().state();
        state.counters.iter().find(|(counter, _)| counter == name).map_or(0, |(_, value)| *value)
    }

    /// The names of all counters.
    pub(crate) fn metric_names(&self) -> Vec<String> {
        self.envoy().state().counters.iter().map(|(name, _)| name.clone()).collect()
    }

    /// All log lines of the module, in order.
    pub(crate) fn logs(&self) -> Vec<Log> {
        self.envoy().state().logs.clone()
    }

    /// All calls of the module, in order.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.envoy().state().calls.clone()
    }

    /// The number of calls in flight.
    pub(crate) fn calls_in_flight(&self) -> usize {
        self.envoy().state().pending.len()
    }

    /// 0, because the module has no memory of its own. `cargo xtask native-sanitizer` finds what it leaks.
    pub(crate) fn memory_bytes(&self) -> usize {
        0
    }
}

/// The version of the ABI that the module names.
pub(crate) fn program_init() -> String {
    hooks::program_init()
}

/// Calls all hooks of a stream and of a configuration that may receive a null pointer. The statuses of the hooks of a stream.
pub(crate) fn call_with_null() -> Vec<u32> {
    hooks::destroy_config(0);
    hooks::destroy_stream(0);
    let all = [
        Hook::RequestHeaders,
        Hook::RequestTrailers,
        Hook::ResponseHeaders,
        Hook::ResponseTrailers,
        Hook::RequestBody,
        Hook::ResponseBody,
        Hook::LocalReply(503),
        Hook::Scheduled,
        Hook::Complete,
    ];
    all.map(|hook| hooks::call_hook(hook, 0, 0)).to_vec()
}

/// The time at which a call ends: by its response, or by its timeout.
fn due(pending: &PendingCall) -> Duration {
    match &pending.progress {
        Progress::Answered(at, _) => pending.deadline.min(*at),
        Progress::Sent | Progress::Held(_) | Progress::Silent => pending.deadline,
    }
}

impl Drop for Inner {
    /// Envoy's end: the workers with their streams first, then the calls, the configurations, and the extension.
    fn drop(&mut self) {
        let envoy = &self.envoy;
        envoy.shut_down();
        let streams: Vec<_> = {
            let state = envoy.state();
            let alive = state.streams.iter().filter(|(_, stream)| stream.module != 0);
            alive.map(|(id, stream)| (*id, stream.worker)).collect()
        };
        for (id, worker) in streams {
            let envoy = Arc::clone(envoy);
            let end = move || {
                envoy.finish(id, Outcome::Aborted);
                if envoy.state().streams.get(&id).is_some_and(|stream| stream.module != 0) {
                    envoy.destroy(id);
                }
            };
            match worker.checked_sub(1).and_then(|index| self.workers.get(index)) {
                None => end(),
                Some(thread) => drop(thread.send(Box::new(end))),
            }
        }
        self.workers.clear();
        let ended: Vec<_> = self.threads.take().into_iter().map(|it| it.join().is_ok()).collect();
        envoy.end_calls();
        let configs = std::mem::take(&mut envoy.state().configs);
        for config in configs.into_values() {
            envoy.enter(|| hooks::destroy_config(config.module));
        }
        let extension = envoy.state().extension.take();
        if let Some((_, module)) = extension {
            envoy.enter(|| extension::destroy(module));
        }
        let (faults, timers) = {
            let mut state = envoy.state();
            (std::mem::take(&mut state.faults), state.timers.len())
        };
        envoy.forget_all();
        if !std::thread::panicking() {
            assert!(ended.into_iter().all(|ended| ended), "a worker has panicked");
            assert_eq!(timers, 0, "a timer is left");
            assert!(faults.is_empty(), "{faults:#?}");
        }
    }
}

impl Stream {
    fn act<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Arc<Envoy>, usize) -> T + Send + 'static,
    ) -> T {
        let id = self.id;
        let worker = self.host.envoy().state().streams.get(&id).map(|stream| stream.worker);
        let worker = worker.expect("a known stream");
        self.host.on_worker(worker, move |envoy| act(envoy, id))
    }

    fn look<T>(&self, look: impl FnOnce(&stream::StreamState) -> T) -> T {
        look(self.host.envoy().state().streams.get(&self.id).expect("a known stream"))
    }

    /// The outcome so far.
    pub(crate) fn outcome(&self) -> Outcome {
        self.look(stream::StreamState::outcome)
    }

    /// Whether the stream has not ended.
    pub(crate) fn is_open(&self) -> bool {
        self.look(stream::StreamState::is_open)
    }

    /// The upstream responds. Returns what the client receives, or `None` if it receives nothing.
    pub(crate) fn respond(&self, headers: Headers) -> Option<Headers> {
        self.act(move |envoy, id| envoy.respond(id, headers))
    }

    /// The client ends its request with these trailers. Returns what the upstream receives.
    pub(crate) fn send_trailers(&self, trailers: Headers) -> Option<Headers> {
        self.act(move |envoy, id| envoy.trailers(id, true, trailers))
    }

    /// The upstream ends its response with these trailers. Returns what the client receives.
    pub(crate) fn respond_with_trailers(&self, trailers: Headers) -> Option<Headers> {
        self.act(move |envoy, id| envoy.trailers(id, false, trailers))
    }

    /// The client or the upstream sends a part of a body.
    pub(crate) fn send_body(&self, is_request: bool, size: usize) {
        self.act(move |envoy, id| envoy.body(id, is_request, size));
    }

    /// The response is complete.
    pub(crate) fn complete(&self) {
        self.act(|envoy, id| envoy.finish(id, Outcome::Pending));
    }

    /// The client aborts the request.
    pub(crate) fn abort(&self) {
        self.act(|envoy, id| envoy.finish(id, Outcome::Aborted));
    }

    /// Sets an attribute that Envoy provides from now on.
    pub(crate) fn set_attribute(&self, name: &str, value: impl AsRef<[u8]>) {
        let mut state = self.host.envoy().state();
        if let Some(stream) = state.streams.get_mut(&self.id) {
            stream.attributes.insert(name.to_owned(), value.as_ref().to_vec());
        }
    }

    /// The client has received this number of bytes of the response's body.
    pub(crate) fn set_sent_bytes(&self, bytes: u64) {
        self.act(move |envoy, id| envoy.set_sent_bytes(id, bytes));
    }

    /// A text that the module set for access logs, by its name without the prefix of `edge.yaml`.
    pub(crate) fn property(&self, name: &str) -> Option<String> {
        self.look(|stream| {
            // `edge.yaml` reads it from there in the native form.
            if name == "sandgate_generation" {
                return stream.filter_state.get(stream::UPSTREAM_SERVER_NAME).cloned();
            }
            let value = stream.properties.get(&format!("wasm.{name}"))?;
            Some(String::from_utf8_lossy(value).into_owned())
        })
    }

    /// All texts that the module set for access logs.
    pub(crate) fn properties(&self) -> Headers {
        self.look(|stream| {
            let name = |key: &str| key.strip_prefix("wasm.").unwrap_or(key).into();
            stream.properties.iter().map(|(key, value)| (name(key), value.clone())).collect()
        })
    }

    /// The number of times that the module let Envoy select the route again.
    pub(crate) fn routes(&self) -> usize {
        self.look(|stream| stream.routes)
    }
}
