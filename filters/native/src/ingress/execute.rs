//! Passes events to the engine, and executes its effects.

use std::cell::OnceCell;
use std::rc::Rc;

use sandgate_engine::ingress::{
    DenialReply, Effect, Engine, Metrics, Now, Reply, Sight, StreamId, missing_guards,
};
use sandgate_policy::ingress::denial::Denial;
use sandgate_policy::ingress::head::Head;

use super::Action;
use super::post::Event;
use super::stream::{Phase, Stream};
use super::worker::{Step, Worker};
use crate::abi::{Counter, HeaderMap, LogLevel, Result, log};
use crate::time;

/// The engine of a worker, in one hook.
pub(super) struct Run<'a> {
    worker: &'a Worker,
    /// The stream whose hook runs.
    current: &'a Stream,
    pub(super) engine: &'a mut Engine,
    now: OnceCell<Now>,
}

impl<'a> Run<'a> {
    pub(super) fn new(worker: &'a Worker, current: &'a Stream, engine: &'a mut Engine) -> Self {
        Self { worker, current, engine, now: OnceCell::new() }
    }

    /// The time of this event. Most hooks need no clock, and reading one can cost more than the rest of such a hook.
    pub(super) fn now(&self) -> Now {
        *self.now.get_or_init(time::now)
    }

    /// The counters by the numbers that they have in the configuration of the current stream.
    fn metrics(&self) -> &'a Metrics<Counter> {
        self.current.metrics()
    }

    fn count(&self, counter: Counter) {
        self.current.handle().count(counter);
    }

    pub(super) fn count_host_error(&self) {
        self.count(*self.metrics().host_error());
    }

    /// Handles what is in the inbox now.
    pub(super) fn read_inbox(&mut self) {
        let events = self.worker.post.take();
        if events.is_empty() {
            return;
        }
        let now = self.now();
        for event in events {
            match event {
                Event::Wake => {}
                Event::Tick => {
                    self.engine.on_tick(now);
                    self.execute_effects();
                }
                Event::Notice(notice) => self.engine.on_notice(notice, now),
            }
        }
        self.engine.on_wake(now);
        self.execute_effects();
    }

    /// Executes all effects.
    pub(super) fn execute_effects(&mut self) {
        while let Some(effect) = self.engine.next_effect() {
            match effect {
                Effect::Start => self.worker.shared.start(),
                Effect::RunHub => self.worker.shared.wake(),
                Effect::Wake => self.worker.post.put(Event::Wake),
                Effect::Forward(id) => match self.undecided(id) {
                    Some(stream) => self.forward(id, &stream),
                    None => self.engine.on_stream_end(id),
                },
                Effect::AnswerPreflight { stream, origin, .. } => {
                    if let Some(stream) = self.undecided(stream) {
                        let answer =
                            stream.handle().with_fields(HeaderMap::RequestHeaders, |fields| {
                                Reply::preflight(&origin, Head::new(fields))
                            });
                        match answer {
                            Ok(reply) => self.answer_preflight(&stream, reply),
                            Err(_) => self.deny_after_error(&stream),
                        }
                    }
                }
                Effect::Deny(stream, reply) => {
                    if let Some(stream) = self.undecided(stream) {
                        self.deny(&stream, &reply);
                    }
                }
                Effect::Close { stream: id, reason } => match self.stream(id) {
                    Some(stream) => {
                        stream.record(reason);
                        self.count(*self.metrics().stream_closed());
                        // The engine keeps the stream until its end, so that nothing of it passes unchecked.
                        stream.close();
                        self.later(&stream, Step::Reset);
                    }
                    None => {
                        self.count_host_error();
                        self.engine.on_close_failed(id);
                    }
                },
                Effect::ReadClient(id) => {
                    if let Some(stream) = self.stream(id) {
                        let now = self.now();
                        self.engine.on_client(id, stream.client(), now);
                    }
                }
                Effect::ReadByteCount(id) => {
                    if let Some(stream) = self.stream(id) {
                        let now = self.now();
                        self.engine.on_byte_count(id, stream.byte_count(), now);
                    }
                }
                Effect::RecheckStarted => self.count(*self.metrics().recheck()),
            }
        }
    }

    /// A stream of this worker that has not ended.
    fn stream(&self, id: StreamId) -> Option<Rc<Stream>> {
        self.worker.streams.borrow().get(&id).map(Rc::clone)
    }

    /// A stream that has no reply yet. A panic in the step of another stream can end a stream that the engine still decides.
    fn undecided(&self, id: StreamId) -> Option<Rc<Stream>> {
        self.stream(id).filter(|stream| stream.is_undecided())
    }

    /// Takes a step for a stream when the engine is unlocked.
    pub(super) fn later(&self, stream: &Rc<Stream>, step: Step) {
        self.worker.steps.borrow_mut().push_back((Rc::clone(stream), step));
    }

    /// Forwards a request that has waited.
    fn forward(&mut self, id: StreamId, stream: &Rc<Stream>) {
        let (handle, now) = (stream.handle(), self.now());
        let engine = &mut *self.engine;
        let forward = handle.with_fields(HeaderMap::RequestHeaders, move |fields| {
            engine.forward(id, Head::new(fields))
        });
        let applied = match forward {
            Ok(Some(forward)) => self.worker.forward(handle, &forward, now),
            Ok(None) => return,
            Err(error) => Err(error),
        };
        if self.forwarded(id, stream, applied) == Action::Continue {
            self.later(stream, Step::Continue);
        }
    }

    /// Counts a stream as forwarded, or denies it if that failed.
    pub(super) fn forwarded(
        &mut self,
        id: StreamId,
        stream: &Rc<Stream>,
        applied: Result<Option<Sight>>,
    ) -> Action {
        if let Ok(sight) = applied {
            self.report_missing_guards(sight);
            self.count(*self.metrics().permit());
            stream.record("permit");
            stream.enter(Phase::Live);
            return Action::Continue;
        }
        self.count_host_error();
        if let Some(reply) = self.engine.on_forward_failed(id) {
            self.deny(stream, &reply);
        }
        Action::Pause
    }

    /// Reports what Envoy's configuration lacks around the filter. The request is not denied, because nothing is wrong with it.
    fn report_missing_guards(&self, sight: Option<Sight>) {
        let Some(sight) = sight else { return };
        for guard in missing_guards(&sight, self.worker.shared.ingress()) {
            self.count(*self.metrics().missing_guard(guard));
            log(LogLevel::Critical, &format!("sandgate_ingress: {}", guard.message()));
        }
    }

    pub(super) fn answer_preflight(&self, stream: &Rc<Stream>, reply: Reply) {
        self.count(*self.metrics().preflight());
        stream.record("preflight");
        stream.enter(Phase::Answered);
        self.later(stream, Step::Reply(reply));
    }

    pub(super) fn deny(&self, stream: &Rc<Stream>, reply: &DenialReply) {
        if let Some(counter) = self.metrics().denial(reply.denial) {
            self.count(*counter);
        }
        stream.record(reply.denial.code());
        stream.enter(Phase::Answered);
        self.later(stream, Step::Reply(Reply::denial(reply)));
    }

    pub(super) fn deny_after_error(&self, stream: &Rc<Stream>) {
        self.count_host_error();
        self.deny(stream, &DenialReply::new(Denial::SandboxUpstreamError, stream.recipient()));
    }
}
