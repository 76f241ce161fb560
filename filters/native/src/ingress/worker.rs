//! What a worker owns: its engine and its streams.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use sandgate_engine::ingress::{Engine, Forward, Guards, Now, Reply, Sight, StreamId};

use super::apply;
use super::execute::Run;
use super::post::Post;
use super::shared::Shared;
use super::stream::Stream;
use crate::abi::{Refused, Result, StreamHandle};

/// What is done for a stream when the engine is unlocked again, because Envoy may call hooks before it returns.
pub(super) enum Step {
    Continue,
    Reply(Reply),
    Reset,
}

/// One worker thread, for one hub.
pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) post: Arc<Post>,
    /// Only hooks on this thread borrow the engine, one at a time.
    engine: RefCell<Engine>,
    /// Set while a hook uses the engine. A hook that panics leaves it set, and the engine may then be inconsistent.
    is_in_use: Cell<bool>,
    pub(super) streams: RefCell<BTreeMap<StreamId, Rc<Stream>>>,
    pub(super) steps: RefCell<VecDeque<(Rc<Stream>, Step)>>,
    /// Whether steps are being taken. Envoy calls hooks from inside a step, and their own steps are taken by the outer loop:
    /// otherwise a thousand replies would nest on the stack.
    is_stepping: Cell<bool>,
    last_stream: Cell<StreamId>,
    guards: RefCell<Guards>,
}

/// Ends the time in which steps are taken, also after a panic.
struct Stepping<'a>(&'a Cell<bool>);

impl Drop for Stepping<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

/// A step that is being taken. If it panics, its stream is reset: nothing else would end it.
struct Unfinished<'a> {
    worker: &'a Worker,
    stream: &'a Rc<Stream>,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Ok(mut steps) = self.worker.steps.try_borrow_mut()
        {
            steps.push_back((Rc::clone(self.stream), Step::Reset));
        }
    }
}

/// The workers of a thread, one for each hub.
struct Workers {
    all: Vec<Rc<Worker>>,
    /// The number of ended hubs when those of this thread were last dropped.
    ended: usize,
}

thread_local! {
    static WORKERS: RefCell<Workers> =
        const { RefCell::new(Workers { all: Vec::new(), ended: 0 }) };
}

impl Workers {
    /// Drops the workers of hubs that have ended, with their engines. Each request asks for its worker, so this is quick when no
    /// hub has ended.
    fn drop_ended(&mut self) {
        let ended = Shared::ended();
        if self.ended != ended {
            self.ended = ended;
            self.all.retain(|worker| !worker.shared.is_ended());
        }
    }
}

/// The number of workers of this thread.
#[cfg(test)]
pub(crate) fn count() -> usize {
    WORKERS.with_borrow(|workers| workers.all.len())
}

impl Worker {
    /// The worker of this thread.
    pub(super) fn of(shared: &Arc<Shared>) -> Rc<Self> {
        WORKERS.with_borrow_mut(|workers| {
            workers.drop_ended();
            let found = workers.all.iter().find(|worker| Arc::ptr_eq(&worker.shared, shared));
            if let Some(worker) = found {
                return Rc::clone(worker);
            }
            let id = shared.hub.add_worker();
            let post = Arc::new(Post::new(id));
            shared.add(Arc::clone(&post));
            let worker = Rc::new(Self {
                shared: Arc::clone(shared),
                post,
                engine: RefCell::new(Engine::new(Arc::clone(&shared.hub), id)),
                is_in_use: Cell::new(false),
                streams: RefCell::default(),
                steps: RefCell::default(),
                is_stepping: Cell::new(false),
                last_stream: Cell::new(0),
                guards: RefCell::default(),
            });
            workers.all.push(Rc::clone(&worker));
            worker
        })
    }

    /// Changes the headers of a permitted request, and sets its upstream. From time to time, returns what was seen of the guards
    /// around the filter.
    ///
    /// # Errors
    /// When Envoy refuses. The request must then be denied.
    pub(super) fn forward(
        &self,
        stream: &StreamHandle,
        forward: &Forward<'_>,
        now: Now,
    ) -> Result<Option<Sight>> {
        let upstream = self.shared.ingress().upstream();
        if self.guards.borrow_mut().is_due(now) {
            apply::forward_and_look(stream, forward, upstream).map(Some)
        } else {
            apply::forward(stream, forward, upstream).map(|()| None)
        }
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
        self.run_in_order(
            current,
            || (),
            |run, read_inbox| {
                read_inbox(run);
                event(run)
            },
        )
    }

    /// Like [`Self::run`] for the first event of a stream. `event` also receives whether the stream could be added.
    pub(super) fn run_first<T>(
        &self,
        id: StreamId,
        current: &Rc<Stream>,
        event: impl FnOnce(&mut Run<'_>, Result<()>) -> T,
    ) -> T {
        let added = Cell::new(Err(Refused));
        self.run_in_order(
            current,
            || added.set(self.add(id, current)),
            |run, read_inbox| {
                read_inbox(run);
                event(run, added.replace(Err(Refused)))
            },
        )
    }

    /// Like [`Self::run`] for the end of a stream: the inbox is read when the engine has forgotten the stream.
    pub(super) fn run_end(&self, current: &Stream, event: impl FnOnce(&mut Run<'_>)) {
        self.run_in_order(
            current,
            || (),
            |run, read_inbox| {
                event(run);
                run.execute_effects();
                read_inbox(run);
            },
        );
    }

    fn run_in_order<T>(
        &self,
        current: &Stream,
        begin: impl FnOnce(),
        event: impl FnOnce(&mut Run<'_>, fn(&mut Run<'_>)) -> T,
    ) -> T {
        let result = {
            let mut engine = self.engine.borrow_mut();
            if self.is_in_use.replace(true) {
                self.replace(&mut engine);
                self.abandon();
            }
            begin();
            let mut run = Run::new(self, current, &mut engine);
            // In a hook that Envoy calls from inside a step, the inbox waits: the anchor was woken for it.
            let read_inbox: fn(&mut Run<'_>) =
                if self.is_stepping.get() { |_| () } else { |run| run.read_inbox() };
            let result = event(&mut run, read_inbox);
            run.execute_effects();
            self.is_in_use.set(false);
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
            let _step = Unfinished { worker: self, stream: &stream };
            // An error means that the stream has ended meanwhile.
            let _ = match step {
                Step::Continue => stream.handle().continue_request(),
                Step::Reply(reply) => apply::reply(stream.handle(), &reply),
                Step::Reset => stream.handle().reset(),
            };
        }
    }

    /// Begins with a new engine, after a panic.
    fn replace(&self, engine: &mut Engine) {
        *engine = Engine::new(Arc::clone(&self.shared.hub), self.post.worker());
        self.shared.hub.forget_streams(self.post.worker());
        drop(self.post.take());
    }

    /// Denies or resets all streams, because the engine does not know them any more, or because nothing wakes the worker.
    fn abandon(&self) {
        for stream in self.streams.borrow().values() {
            stream.abandon();
        }
    }

    /// Adds a stream, before the clock is read for its first event. A notice that the main thread sends after this is in the
    /// inbox, and one that it dropped before this is not later than the time of that event.
    ///
    /// # Errors
    /// When nothing would wake the worker to continue or to revoke the stream.
    fn add(&self, id: StreamId, stream: &Rc<Stream>) -> Result<()> {
        self.streams.borrow_mut().insert(id, Rc::clone(stream));
        self.post.open(id, || stream.handle().scheduler())
    }

    /// Removes a stream. If it was the anchor, another one becomes the anchor.
    pub(super) fn remove(&self, id: StreamId) {
        self.streams.borrow_mut().remove(&id);
        let streams = self.streams.borrow();
        if streams.is_empty() {
            self.post.close();
        } else {
            let replaced = self.post.replace_anchor(id, || {
                // The newest one is likely to be there the longest.
                streams.iter().rev().find_map(|(id, stream)| {
                    stream.handle().scheduler().ok().map(|scheduler| (*id, scheduler))
                })
            });
            if replaced.is_err() {
                self.abandon();
            }
        }
    }
}
