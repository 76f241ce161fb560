//! The state of the host, and the event loop of its main thread.
//!
//! No lock is held while a hook runs, because the module calls back. A worker has a thread of its own, except for the first
//! one, which shares the thread of the test with the main thread: their hooks never run at the same time.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sandgate_wasm_host::{Call, Headers, Log, LogLevel, Response};

use super::abi::{Module, extension, hooks};
use super::stream::StreamState;

/// The wall clock at the creation of a host: 2026-11-01 00:00:00 UTC.
const EPOCH: Duration = Duration::from_secs(1_793_491_200);

/// What a scheduler wakes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Target {
    Stream(usize),
    Main,
}

/// What happens instead of a callback.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Injected {
    /// The host refuses the call.
    Refusal,
    /// The call panics, as if the code that makes it had.
    Panic,
}

/// One configuration of the filter.
pub(super) struct ConfigState {
    pub(super) module: Module,
    /// Whether new streams use it. Another one exists until its last stream ends.
    pub(super) is_current: bool,
    pub(super) streams: usize,
}

/// A call in flight.
pub(super) struct PendingCall {
    pub(super) id: u64,
    pub(super) call: Call,
    pub(super) deadline: Duration,
    pub(super) progress: Progress,
}

pub(super) enum Progress {
    /// The control plane has not received the call.
    Sent,
    /// The call is passed to the control plane again, at the latest at this time.
    Held(Duration),
    /// The response arrives at this time. `None` means that the call ends without a response.
    Answered(Duration, Option<Response>),
    /// No response arrives.
    Silent,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) clock: Duration,
    pub(super) set_back: Duration,
    /// How often the module has read the clock that can't be set back.
    pub(super) clock_reads: usize,
    pub(super) counters: Vec<(String, u64)>,
    pub(super) logs: Vec<Log>,
    pub(super) calls: Vec<Call>,
    pub(super) pending: Vec<PendingCall>,
    /// What would have been an error in Envoy. It fails the test.
    pub(super) faults: Vec<String>,
    pub(super) clusters: Option<BTreeSet<String>>,
    pub(super) max_calls: Option<usize>,
    pub(super) configs: BTreeMap<usize, ConfigState>,
    pub(super) streams: BTreeMap<usize, StreamState>,
    pub(super) schedulers: BTreeMap<usize, Target>,
    pub(super) scheduled: VecDeque<(Target, u64)>,
    /// The bootstrap extension: its number, and the module's object. `None` before it exists and after the end.
    pub(super) extension: Option<(usize, Module)>,
    /// Whether the extension lets Envoy accept connections.
    pub(super) is_ready: bool,
    /// Whether Envoy has no clusters any more.
    pub(super) has_ended: bool,
    /// The timers of the main thread, and when each is due.
    pub(super) timers: BTreeMap<usize, Option<Duration>>,
    /// The streams that Envoy destroys later, as it does while the client still sends its request.
    pub(super) to_destroy: Vec<usize>,
    pub(super) destroys_later: bool,
    /// The response of the upstream, which begins before `continue_decoding` returns.
    pub(super) immediate_response: Option<Headers>,
    /// The callbacks that could have been refused so far, and what is injected into one of them.
    pub(super) callbacks: usize,
    pub(super) injection: Option<(usize, Injected)>,
    /// The name of the callback that was injected into.
    pub(super) injected: Option<&'static str>,
}

/// The part of the host that its callbacks reach.
#[derive(Default)]
pub(crate) struct Envoy(Mutex<State>);

/// The hosts of all objects in the process.
static OBJECTS: Mutex<BTreeMap<usize, Arc<Envoy>>> = Mutex::new(BTreeMap::new());
/// Numbers are not addresses: nothing can be read through them.
static NUMBERS: AtomicUsize = AtomicUsize::new(1);

thread_local! {
    /// The host whose hook runs on this thread.
    static CURRENT: RefCell<Option<Arc<Envoy>>> = const { RefCell::new(None) };
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Envoy {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }

    pub(super) fn of(object: usize) -> Option<Arc<Self>> {
        lock(&OBJECTS).get(&object).cloned()
    }

    /// Gives a new object a number.
    pub(super) fn register(self: &Arc<Self>) -> usize {
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        lock(&OBJECTS).insert(number, Arc::clone(self));
        number
    }

    pub(super) fn forget(object: usize) {
        lock(&OBJECTS).remove(&object);
    }

    /// Forgets all objects of this host.
    pub(super) fn forget_all(&self) {
        lock(&OBJECTS).retain(|_, envoy| !std::ptr::eq(Arc::as_ptr(envoy), self));
    }

    /// Makes this the host of the hooks that `run` calls.
    pub(super) fn enter<T>(self: &Arc<Self>, run: impl FnOnce() -> T) -> T {
        struct Restore(Option<Arc<Envoy>>);
        impl Drop for Restore {
            fn drop(&mut self) {
                CURRENT.set(self.0.take());
            }
        }
        let _restore = Restore(CURRENT.replace(Some(Arc::clone(self))));
        run()
    }

    fn current() -> Option<Arc<Self>> {
        CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()
    }

    pub(super) fn fault(&self, what: impl Into<String>) {
        self.state().faults.push(what.into());
    }

    pub(super) fn fault_of_current(what: String) {
        match Self::current() {
            Some(envoy) => envoy.fault(what),
            // In a drop, which must not panic. The sanitizer does not see this, so it is printed.
            None => eprintln!("outside of all hooks: {what}"),
        }
    }

    pub(super) fn log(level: u32, message: String) {
        let Some(envoy) = Self::current() else { return };
        let level = match level {
            0 => LogLevel::Trace,
            1 => LogLevel::Debug,
            2 => LogLevel::Info,
            3 => LogLevel::Warn,
            4 => LogLevel::Error,
            _ => LogLevel::Critical,
        };
        envoy.state().logs.push(Log { level, message });
    }

    /// What the test injects into this callback. Nothing is injected while a panic unwinds, as that would end the process.
    pub(super) fn injected(&self, callback: &'static str) -> Option<Injected> {
        if std::thread::panicking() {
            return None;
        }
        let mut state = self.state();
        state.callbacks += 1;
        let now = state.callbacks;
        let (_, what) = state.injection.take_if(|(at, _)| *at == now)?;
        state.injected = Some(callback);
        Some(what)
    }

    pub(super) fn wall_clock(&self) -> Duration {
        let state = self.state();
        EPOCH + state.clock - state.set_back
    }

    pub(super) fn define_counter(&self, name: String) -> usize {
        let counters = &mut self.state().counters;
        let known = counters.iter().position(|(counter, _)| *counter == name);
        known.unwrap_or_else(|| {
            counters.push((name, 0));
            counters.len() - 1
        })
    }

    pub(super) fn increment(&self, counter: usize, by: u64) -> bool {
        self.state().counters.get_mut(counter).map(|(_, value)| *value += by).is_some()
    }

    pub(super) fn set_gauge(&self, gauge: usize, to: u64) -> bool {
        self.state().counters.get_mut(gauge).map(|(_, value)| *value = to).is_some()
    }

    pub(super) fn new_scheduler(self: &Arc<Self>, target: Target) -> usize {
        let scheduler = self.register();
        self.state().schedulers.insert(scheduler, target);
        scheduler
    }

    pub(super) fn commit(self: &Arc<Self>, scheduler: usize, event: u64) {
        let mut state = self.state();
        match state.schedulers.get(&scheduler).copied() {
            Some(target) => state.scheduled.push_back((target, event)),
            None => state.faults.push("a scheduler was used after it was deleted".to_owned()),
        }
    }

    /// Deletes a scheduler. This runs in destructors, so it never panics.
    pub(super) fn delete_scheduler(scheduler: usize) {
        match Self::of(scheduler) {
            Some(envoy) => {
                Self::forget(scheduler);
                envoy.state().schedulers.remove(&scheduler);
            }
            None => Self::fault_of_current(format!("there is no scheduler {scheduler} to delete")),
        }
    }

    /// Removes the configurations that no stream uses any more.
    pub(super) fn take_unused_configs(&self) -> Vec<(usize, Module)> {
        let mut state = self.state();
        let is_unused = |config: &ConfigState| !config.is_current && config.streams == 0;
        let unused = state.configs.extract_if(.., |_, config| is_unused(config));
        unused.map(|(id, config)| (id, config.module)).collect()
    }

    /// The hook for Envoy's end. Envoy waits until the module has called the function that it passes.
    pub(super) fn shut_down(self: &Arc<Self>) {
        let Some((id, module)) = self.state().extension else { return };
        self.state().has_ended = true;
        if !self.enter(|| extension::shut_down(id, module)) {
            self.fault("Envoy waits for the module for ever");
        }
    }

    /// Ends all calls, as Envoy does when it destroys its clusters.
    pub(super) fn end_calls(self: &Arc<Self>) {
        let (extension, pending) = {
            let mut state = self.state();
            (state.extension, std::mem::take(&mut state.pending))
        };
        for (call, (id, module)) in pending.iter().zip(std::iter::repeat(extension).flatten()) {
            self.enter(|| extension::callout_done(id, module, call.id, None));
        }
    }

    pub(super) fn destroy_config(self: &Arc<Self>, (id, module): (usize, Module)) {
        self.enter(|| hooks::destroy_config(module));
        Self::forget(id);
    }

    /// Accepts a call. `None` refuses it, as Envoy does for an unknown cluster or when the circuit breaker is open.
    pub(super) fn call(
        &self,
        cluster: String,
        headers: Headers,
        body: Vec<u8>,
        timeout_ms: u64,
    ) -> Option<u64> {
        let mut state = self.state();
        if state.has_ended {
            state.faults.push("a call without clusters, which ends Envoy".to_owned());
        }
        let is_complete =
            [":method", ":path", ":authority"].iter().all(|name| headers.contains(name));
        let is_known = state.clusters.as_ref().is_none_or(|clusters| clusters.contains(&cluster));
        let is_full = state.max_calls.is_some_and(|max| state.pending.len() >= max);
        if !is_complete || !is_known || is_full {
            return None;
        }
        let sent_at = state.clock;
        let waited = Duration::ZERO;
        let call = Call { cluster, headers, body, sent_at, waited, worker: None };
        state.calls.push(call.clone());
        // The numbers of calls begin at 1.
        let id = u64::try_from(state.calls.len()).unwrap_or_default();
        let deadline = sent_at + Duration::from_millis(timeout_ms);
        state.pending.push(PendingCall { id, call, deadline, progress: Progress::Sent });
        Some(id)
    }
}

/// The wall clock of the host whose hook runs.
pub(crate) fn since_epoch() -> Option<Duration> {
    Envoy::current().map(|envoy| envoy.wall_clock())
}

/// The clock of the host whose hook runs, which can't be set back.
pub(crate) fn monotonic() -> Duration {
    let Some(envoy) = Envoy::current() else { return Duration::default() };
    let mut state = envoy.state();
    state.clock_reads += 1;
    state.clock
}
