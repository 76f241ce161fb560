//! What a worker owns: its engine, its streams, and its inbox.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard};

use sandgate_engine::ingress::{CallId, Clock, Engine, Hub, Now, Reply, StreamId};

use super::apply;
use super::config::{Config, lock};
use super::execute::{Host, Run};
use super::stream::Stream;
use crate::abi::{CalloutResponse, MainThread, StreamScheduler};
use crate::time;

/// Rounds in which the main thread does the work of a worker without streams. Each tick begins again.
const ROUNDS: usize = 8;

/// What a worker is told by other threads, or by itself for later.
pub(super) enum Event {
    Wake,
    Tick,
    CallDone(CallId, Option<CalloutResponse>),
    CallFailed(CallId),
}

/// The part of a worker that other threads reach.
///
/// Envoy wakes a worker only for a stream. One of the worker's streams is its anchor, whose scheduler the other threads
/// use. A worker without streams has none; the main thread then does the work of its engine, which names no stream.
pub(super) struct Post {
    state: Mutex<State>,
    mail: Mutex<Mail>,
}

/// The engine of a worker. The worker locks it in each hook, and nobody else does while the worker has streams.
pub(super) struct State {
    pub(super) engine: Engine,
    pub(super) hub: Arc<Hub>,
    clock: Clock,
}

#[derive(Default)]
struct Mail {
    inbox: VecDeque<Event>,
    /// There is one if and only if the worker has streams. It changes only under the lock of the state.
    anchor: Option<(StreamId, StreamScheduler)>,
}

impl State {
    fn new(config: &Config) -> Self {
        let hub = Arc::new(Hub::new(config.ingress.clone()));
        let worker = hub.add_worker();
        Self { engine: Engine::new(Arc::clone(&hub), worker), hub, clock: Clock::default() }
    }

    pub(super) fn now(&mut self) -> Now {
        self.clock.now(time::since_epoch())
    }
}

impl Post {
    /// Passes an event to the worker. The main thread calls this.
    pub(super) fn deliver(self: &Arc<Self>, config: &Config, main: &MainThread, event: Event) {
        if self.put(event) {
            return;
        }
        let (mut state, _) = self.lock_state(config);
        for _ in 0..ROUNDS {
            // Streams begin only under the lock of the state, so this holds to the end of the round.
            if self.wake() || lock(&self.mail).inbox.is_empty() {
                return;
            }
            Run::new(self, config, &mut state, Host::Main(main)).read_inbox();
        }
    }

    /// Puts an event into the inbox. Returns whether a stream will read it.
    pub(super) fn put(&self, event: Event) -> bool {
        lock(&self.mail).inbox.push_back(event);
        self.wake()
    }

    fn wake(&self) -> bool {
        let mail = lock(&self.mail);
        if let Some((_, scheduler)) = &mail.anchor {
            scheduler.wake();
        }
        mail.anchor.is_some()
    }

    /// Takes what is in the inbox.
    pub(super) fn take(&self) -> VecDeque<Event> {
        std::mem::take(&mut lock(&self.mail).inbox)
    }

    /// Locks the state. After a panic it may be inconsistent: then it begins anew, and the second value is true.
    fn lock_state(&self, config: &Config) -> (MutexGuard<'_, State>, bool) {
        match self.state.lock() {
            Ok(state) => (state, false),
            Err(poisoned) => {
                self.state.clear_poison();
                let mut state = poisoned.into_inner();
                *state = State::new(config);
                // The new engine numbers its calls from the beginning, so no response may reach it that an old call waits for.
                config.forget_calls(self);
                lock(&self.mail).inbox.clear();
                (state, true)
            }
        }
    }
}

/// What is done for a stream when the engine is unlocked again, because Envoy may call hooks before it returns.
pub(super) enum Step {
    Continue,
    Reply(Reply),
    Reset,
}

/// One worker thread, for one configuration.
pub(super) struct Worker {
    pub(super) config: Arc<Config>,
    pub(super) post: Arc<Post>,
    pub(super) streams: RefCell<BTreeMap<StreamId, Rc<Stream>>>,
    pub(super) steps: RefCell<VecDeque<(Rc<Stream>, Step)>>,
    /// Whether steps are being taken. Envoy calls hooks from inside a step, and their own steps are taken by the outer loop:
    /// otherwise a thousand replies would nest on the stack.
    is_stepping: Cell<bool>,
    last_stream: Cell<StreamId>,
}

/// Ends the time in which steps are taken, also after a panic.
struct Stepping<'a>(&'a Cell<bool>);

impl Drop for Stepping<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

thread_local! {
    static WORKERS: RefCell<Vec<Rc<Worker>>> = const { RefCell::new(Vec::new()) };
}

impl Worker {
    /// The worker of this thread.
    pub(super) fn of(config: &Arc<Config>) -> Rc<Self> {
        WORKERS.with_borrow_mut(|workers| {
            let found = workers.iter().find(|worker| Arc::ptr_eq(&worker.config, config));
            if let Some(worker) = found {
                return Rc::clone(worker);
            }
            workers.retain(|worker| !worker.config.is_ended());
            let post =
                Arc::new(Post { state: Mutex::new(State::new(config)), mail: Mutex::default() });
            config.add(Arc::clone(&post));
            let worker = Rc::new(Self {
                config: Arc::clone(config),
                post,
                streams: RefCell::default(),
                steps: RefCell::default(),
                is_stepping: Cell::new(false),
                last_stream: Cell::new(0),
            });
            workers.push(Rc::clone(&worker));
            worker
        })
    }

    /// A number that no other stream of this worker has.
    pub(super) fn next_stream(&self) -> StreamId {
        loop {
            self.last_stream.set(self.last_stream.get().wrapping_add(1));
            if !self.streams.borrow().contains_key(&self.last_stream.get()) {
                return self.last_stream.get();
            }
        }
    }

    /// Reads the inbox, and runs `event` of a stream. Then executes the effects, and takes the steps that they left.
    pub(super) fn run<T>(&self, current: &Stream, event: impl FnOnce(&mut Run<'_>) -> T) -> T {
        self.run_in_order(current, |run, read_inbox| {
            read_inbox(run);
            event(run)
        })
    }

    /// Like [`Self::run`] for the end of a stream: the inbox is read when the engine has forgotten the stream.
    pub(super) fn run_end(&self, current: &Stream, event: impl FnOnce(&mut Run<'_>)) {
        self.run_in_order(current, |run, read_inbox| {
            event(run);
            run.execute_effects();
            read_inbox(run);
        });
    }

    fn run_in_order<T>(
        &self,
        current: &Stream,
        event: impl FnOnce(&mut Run<'_>, fn(&mut Run<'_>)) -> T,
    ) -> T {
        let result = {
            let (mut state, is_new) = self.post.lock_state(&self.config);
            if is_new {
                self.abandon();
            }
            let host = Host::Worker { worker: self, current: current.handle() };
            let mut run = Run::new(&self.post, &self.config, &mut state, host);
            // In a hook that Envoy calls from inside a step, the inbox waits: the anchor was woken for it.
            let read_inbox: fn(&mut Run<'_>) =
                if self.is_stepping.get() { |_| () } else { |run| run.read_inbox() };
            let result = event(&mut run, read_inbox);
            run.execute_effects();
            result
        };
        self.take_steps();
        result
    }

    fn take_steps(&self) {
        if self.is_stepping.replace(true) {
            return;
        }
        let _end = Stepping(&self.is_stepping);
        loop {
            let Some((stream, step)) = self.steps.borrow_mut().pop_front() else { return };
            // An error means that the stream has ended meanwhile.
            let _ = match step {
                Step::Continue => stream.handle().continue_request(),
                Step::Reply(reply) => apply::reply(stream.handle(), &reply),
                Step::Reset => stream.handle().reset(),
            };
        }
    }

    /// Denies or resets all streams, because the engine does not know them any more.
    fn abandon(&self) {
        for stream in self.streams.borrow().values() {
            stream.abandon();
        }
    }

    /// Adds a stream. Only under the lock of the state.
    pub(super) fn add(&self, id: StreamId, stream: &Rc<Stream>) {
        self.streams.borrow_mut().insert(id, Rc::clone(stream));
        let mut mail = lock(&self.post.mail);
        if mail.anchor.is_none() {
            mail.anchor = stream.handle().scheduler().ok().map(|scheduler| (id, scheduler));
        }
    }

    /// Removes a stream. If it was the anchor, another one becomes the anchor. Only under the lock of the state.
    pub(super) fn remove(&self, id: StreamId) {
        self.streams.borrow_mut().remove(&id);
        let mut mail = lock(&self.post.mail);
        if mail.anchor.as_ref().is_some_and(|(anchor, _)| *anchor == id) {
            let streams = self.streams.borrow();
            mail.anchor = streams.iter().find_map(|(id, stream)| {
                stream.handle().scheduler().ok().map(|scheduler| (*id, scheduler))
            });
            // The old anchor is not woken any more.
            if let Some((_, scheduler)) = mail.anchor.as_ref().filter(|_| !mail.inbox.is_empty()) {
                scheduler.wake();
            }
        }
    }
}
