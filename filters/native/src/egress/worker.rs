//! What a worker owns: its engine, and its live streams.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use sandgate_engine::egress::{Decision, Engine};

use super::connection::Connection;
use super::process::{PROCESS, Post};
use super::request::Request;
use crate::abi::{ConnectionScheduler, Result, StreamScheduler};

/// The maximum number of live streams that are evaluated again, or ended, before Envoy handles other events.
const REEVALUATED_AT_ONCE: usize = 2_000;
const ENDED_AT_ONCE: usize = 200;

/// A connection or request that was permitted and has not ended.
#[derive(Clone)]
pub(super) enum Live {
    Connection(Rc<Connection>),
    Request(Rc<Request>),
}

impl Live {
    /// The address that the stream is connected to upstream, if it is connected.
    fn peer(&self) -> Option<IpAddr> {
        match self {
            Self::Connection(connection) => connection.peer(),
            Self::Request(request) => request.peer(),
        }
    }

    /// Ends the stream. `None` is the end after an error, when no policy has decided.
    fn close(&self, decision: Option<Decision>) {
        match self {
            Self::Connection(connection) => connection.close(decision),
            Self::Request(request) => request.close(decision),
        }
    }

    fn waker(&self) -> Result<Waker> {
        Ok(match self {
            Self::Connection(connection) => Waker::Connection(connection.handle().scheduler()?),
            Self::Request(request) => Waker::Request(request.handle().scheduler()?),
        })
    }
}

enum Waker {
    Connection(ConnectionScheduler),
    Request(StreamScheduler),
}

/// The live stream by which other threads wake the worker.
pub(super) struct Anchor {
    stream: u32,
    waker: Waker,
}

impl Anchor {
    pub(super) fn wake(&self) {
        match &self.waker {
            Waker::Connection(scheduler) => scheduler.wake(),
            Waker::Request(scheduler) => scheduler.wake(),
        }
    }
}

/// One worker thread.
pub(super) struct Worker {
    engine: RefCell<Engine>,
    /// The version of the configurations that the engine has adopted.
    version: Cell<u64>,
    live: RefCell<BTreeMap<u32, Live>>,
    post: Arc<Post>,
    last_stream: Cell<u32>,
}

thread_local! {
    static WORKER: Rc<Worker> = Worker::new();
}

impl Worker {
    fn new() -> Rc<Self> {
        let post = Arc::new(Post::default());
        PROCESS.add(Arc::clone(&post));
        Rc::new(Self {
            engine: RefCell::default(),
            version: Cell::new(0),
            live: RefCell::default(),
            post,
            last_stream: Cell::new(0),
        })
    }

    /// The worker of this thread.
    pub(super) fn current() -> Rc<Self> {
        WORKER.with(Rc::clone)
    }

    /// A number that no live stream of this worker has.
    pub(super) fn next_stream(&self) -> u32 {
        let live = self.live.borrow();
        loop {
            let next = self.last_stream.get().wrapping_add(1);
            self.last_stream.set(next);
            if !live.contains_key(&next) {
                return next;
            }
        }
    }

    /// Runs `event` on the engine, which has adopted the newest configurations. `event` must not call Envoy in a way that
    /// ends a stream.
    pub(super) fn run<T>(&self, event: impl FnOnce(&mut Engine) -> T) -> T {
        let mut engine = self.engine.borrow_mut();
        if PROCESS.version() != self.version.get() {
            let (version, configurations) = PROCESS.configurations();
            engine.adopt(&configurations);
            self.version.set(version);
        }
        event(&mut engine)
    }

    /// Adds a stream that the engine has permitted.
    ///
    /// # Errors
    /// When nothing would wake the worker to end the stream.
    pub(super) fn add(&self, stream: u32, live: Live) -> Result<()> {
        let mut anchor = self.post.anchor();
        if anchor.is_none() {
            *anchor = Some(Anchor { stream, waker: live.waker()? });
        }
        self.live.borrow_mut().insert(stream, live);
        drop(anchor);
        // The main thread may have found no anchor to wake.
        self.wake_if_outdated();
        Ok(())
    }

    /// Removes a stream that has ended. If it was the anchor, another one becomes the anchor. If Envoy refuses that, the other
    /// streams end.
    pub(super) fn remove(&self, stream: u32) {
        self.live.borrow_mut().remove(&stream);
        self.engine.borrow_mut().on_stream_end(stream);
        let mut anchor = self.post.anchor();
        if anchor.as_ref().is_some_and(|anchor| anchor.stream == stream) {
            // Also if the search for another anchor panics.
            *anchor = None;
            *anchor = self.live.borrow().iter().find_map(|(stream, live)| {
                live.waker().ok().map(|waker| Anchor { stream: *stream, waker })
            });
            let is_found = anchor.is_some();
            drop(anchor);
            if is_found {
                // The old anchor is not woken any more.
                self.wake_if_outdated();
            } else {
                self.close_all();
            }
        }
    }

    fn wake_if_outdated(&self) {
        if PROCESS.version() != self.version.get() || self.engine.borrow().is_reevaluating() {
            self.post.wake();
        }
    }

    /// Evaluates some of the live streams that have to be evaluated again, and ends those that the active configuration
    /// denies. Envoy calls this again for the rest.
    pub(super) fn reevaluate(&self) {
        let mut ended = 0;
        for _ in 0..REEVALUATED_AT_ONCE {
            let Some(stream) = self.run(Engine::next_to_reevaluate) else { return };
            let live = self.live.borrow().get(&stream).cloned();
            let Some(live) = live else { continue };
            let peer = live.peer();
            let Some(decision) = self.run(|engine| engine.reevaluate(stream, peer)) else {
                continue;
            };
            live.close(Some(decision));
            ended += 1;
            if ended >= ENDED_AT_ONCE {
                break;
            }
        }
        self.wake_if_outdated();
    }

    /// The engine may be inconsistent after a panic, so it begins anew.
    pub(super) fn begin_anew(&self) {
        self.version.set(0);
        self.engine.replace(Engine::default());
        self.close_all();
    }

    /// Ends all live streams, because nothing would end them when the policy changes.
    fn close_all(&self) {
        let live: Vec<_> = self.live.borrow().values().cloned().collect();
        for live in live {
            live.close(None);
        }
    }
}
