//! What the workers of a process share: the caches, the lookups that fill them, and the change feed that invalidates
//! them.
//!
//! One thread drives the hub: it passes events in, sends the calls, and passes the notices on to the workers. The
//! engines of the workers read the caches through views, without a lock. They lock the hub only for what their views lack.

mod notice;
mod resume;
mod state;

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use sandgate_policy::ingress::config::IngressConfig;

use crate::ingress::clock::Now;
use crate::ingress::effect::{CallId, CallResponse};

pub(crate) use self::notice::Content;
pub use self::notice::{HubEffect, Notice, WorkerId};
pub(crate) use self::resume::ResumeLookup;
pub(crate) use self::state::State;

/// While the feed does not work, nothing is covered.
const NEVER: u64 = u64::MAX;

/// The part of the ingress filter that the workers of a process share. The host passes events in from one thread, and
/// after each event executes the effects until [`Self::next_effect`] returns `None`.
pub struct Hub {
    config: IngressConfig,
    state: Mutex<State>,
    is_started: AtomicBool,
    /// Since when the feed covers lookups, in milliseconds, or [`NEVER`]. A copy of what the state says, for reading
    /// without the lock.
    covered_since: AtomicU64,
    /// Increases when the state begins anew.
    epoch: AtomicU64,
    workers: AtomicU32,
}

impl Hub {
    /// The hub makes no calls before it is started.
    #[must_use]
    pub fn new(config: IngressConfig) -> Self {
        Self {
            state: Mutex::new(State::new(&config)),
            is_started: AtomicBool::new(false),
            covered_since: AtomicU64::new(NEVER),
            epoch: AtomicU64::new(0),
            workers: AtomicU32::new(0),
            config,
        }
    }

    #[must_use]
    pub fn config(&self) -> &IngressConfig {
        &self.config
    }

    /// The name of a new worker.
    pub fn add_worker(&self) -> WorkerId {
        WorkerId(self.workers.fetch_add(1, Ordering::Relaxed))
    }

    /// No stream of a worker waits for a lookup any more, because its engine begins anew.
    pub fn forget_streams(&self, worker: WorkerId) {
        self.lock().lookups.leave_all(worker);
    }

    /// Starts to follow the change feed, unless another worker has started the hub. `watcher` identifies the hub to the
    /// control plane, and consists of unreserved characters (RFC 3986, section 2.3). The host calls [`Self::run`] next.
    pub fn start(&self, watcher: String) {
        let mut state = self.lock();
        state.start(watcher);
        self.is_started.store(true, Ordering::Release);
    }

    pub(crate) fn is_started(&self) -> bool {
        self.is_started.load(Ordering::Acquire)
    }

    /// The time since which the feed has reported every change. `None` while the feed does not work.
    pub(crate) fn covered_since(&self) -> Option<u64> {
        Some(self.covered_since.load(Ordering::Acquire)).filter(|since| *since != NEVER)
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Locks the state. After a panic it may be inconsistent, and begins anew.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| {
            let mut state = poisoned.into_inner();
            self.renew(&mut state);
            self.state.clear_poison();
            state
        })
    }

    /// Begins anew, because a panic may have lost an event or an effect. The caches are empty, the feed begins again, and
    /// each engine repeats the lookups that its streams need.
    pub fn begin_anew(&self) {
        let mut state = self.lock();
        self.renew(&mut state);
    }

    fn renew(&self, state: &mut State) {
        self.covered_since.store(NEVER, Ordering::Release);
        // Before the lock is released: an engine that sees the new state also sees that it is new.
        self.epoch.fetch_add(1, Ordering::AcqRel);
        state.renew(&self.config);
    }

    /// The next effect of the events so far.
    pub fn next_effect(&self) -> Option<HubEffect> {
        self.lock().next_effect()
    }

    /// [`TICK_MS`](crate::ingress::TICK_MS) milliseconds have passed. The host calls [`Self::run`] next.
    pub fn on_tick(&self, now: Now) {
        self.lock().on_tick(&self.config, now);
    }

    /// Sends the calls that are due. The host calls this for [`HubEffect::Run`] and
    /// [`Effect::RunHub`](crate::ingress::Effect::RunHub).
    pub fn run(&self, now: Now) {
        self.lock().run(&self.config, now);
    }

    /// A call has ended. `response` is `None` if there is none, or it can't be read. The host calls [`Self::run`] next.
    pub fn on_call_response(&self, call: CallId, response: Option<&CallResponse<'_>>, now: Now) {
        let mut state = self.lock();
        state.on_call_response(call, response, now);
        // After the outdated entries are marked. Otherwise an engine could take one of them for covered.
        self.covered_since.store(state.covered_since().unwrap_or(NEVER), Ordering::Release);
    }

    /// A call could not be sent.
    pub fn on_call_failed(&self, call: CallId, now: Now) {
        let mut state = self.lock();
        state.on_call_failed(call, now);
        self.covered_since.store(state.covered_since().unwrap_or(NEVER), Ordering::Release);
    }

    /// A line for the log, after a tick.
    pub fn warning(&self) -> Option<String> {
        self.lock().warning(&self.config)
    }
}
