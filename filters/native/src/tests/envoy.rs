//! A host of the module without Envoy: a model of Envoy's streams, header maps, filter state, calls, and schedulers.
//!
//! It defines the callbacks of the ABI as symbols of the test program, and calls the hooks of the module as Envoy does. Its
//! API is that of `sandgate_wasm_host`, so that the tests of the wasm form run here, too.
//!
//! `abi` is the ABI, `host` the state, `events` the event loop, and `stream` the life of a stream. `Envoy` is used by callbacks,
//! and [`Host`] and [`Stream`] (`client`) by tests.
//!
//! - A reply, a reset, and a continued request call hooks before they return, and destroy the stream inside of them.
//! - A call to an object that is gone, a second reply, and a request that is continued twice fail the test.
//! - Each callback can be refused, or can panic ([`Host::inject`]).

mod abi;
mod client;
mod events;
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
use self::host::{ConfigState, Envoy, Target};
pub(crate) use self::host::{Injected, monotonic, since_epoch};
pub(crate) use sandgate_wasm_host::{
    Answer, Attributes, Call, Forwarded, Headers, Log, LogLevel, Outcome, Refused, Reply,
};

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

    /// The numbers of the streams that Envoy has not destroyed, and of the schedulers that wake a stream.
    pub(crate) fn objects(&self) -> (usize, usize) {
        let state = self.envoy().state();
        let wakes_stream = |target: &&Target| matches!(target, Target::Stream(_));
        let streams = state.streams.values().filter(|stream| stream.module != 0);
        (streams.count(), state.schedulers.values().filter(wakes_stream).count())
    }

    /// How often the module has read the clock that can't be set back.
    pub(crate) fn clock_reads(&self) -> usize {
        self.envoy().state().clock_reads
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
