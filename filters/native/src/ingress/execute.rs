//! Passes events to the engine, and executes its effects.

use std::rc::Rc;
use std::sync::Arc;

use sandgate_engine::ingress::{
    CallKind, CallResponse, DenialReply, Effect, Engine, Hub, HubEffect, Now, Reply, StreamId,
};
use sandgate_policy::header::fields;
use sandgate_policy::ingress::denial::Denial;
use sandgate_policy::ingress::head::Head;

use super::apply;
use super::config::Config;
use super::stream::{Action, Phase, Stream};
use super::worker::{Event, Post, State, Step, Worker};
use crate::abi::{
    CalloutResponse, Counter, HeaderMap, LogLevel, MainThread, Result, StreamHandle, log,
};
use crate::time;

/// The thread that runs the engine.
#[derive(Clone, Copy)]
pub(super) enum Host<'a> {
    Worker {
        worker: &'a Worker,
        /// The stream whose hook runs.
        current: &'a StreamHandle,
    },
    /// The worker has no streams.
    Main(&'a MainThread),
}

/// The engine of a worker, in one hook.
pub(super) struct Run<'a> {
    post: &'a Arc<Post>,
    pub(super) config: &'a Config,
    pub(super) engine: &'a mut Engine,
    hub: &'a Hub,
    host: Host<'a>,
    pub(super) now: Now,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        post: &'a Arc<Post>,
        config: &'a Config,
        state: &'a mut State,
        host: Host<'a>,
    ) -> Self {
        let now = state.now();
        Self { post, config, engine: &mut state.engine, hub: &state.hub, host, now }
    }

    pub(super) fn count(&self, counter: Counter) {
        match self.host {
            Host::Worker { current, .. } => current.count(counter),
            Host::Main(main) => main.count(counter),
        }
    }

    pub(super) fn count_host_error(&self) {
        self.count(*self.config.metrics.host_error());
    }

    /// Handles what is in the inbox now.
    pub(super) fn read_inbox(&mut self) {
        for event in self.post.take() {
            match event {
                Event::Wake => {}
                Event::Tick => {
                    self.hub.on_tick(self.now);
                    self.execute_hub_effects();
                    self.engine.on_tick(self.now);
                    self.execute_effects();
                    if let Some(warning) = self.hub.warning() {
                        log(LogLevel::Warn, &format!("sandgate_ingress: {warning}"));
                    }
                }
                Event::CallDone(call, response) => {
                    let pairs = response.as_ref().map(|response| fields(&response.headers));
                    let response = response.as_ref().zip(pairs.as_ref());
                    let response = response.map(|(CalloutResponse { body, .. }, fields)| {
                        CallResponse { headers: Head::new(fields), body }
                    });
                    self.hub.on_call_response(call, response.as_ref(), self.now);
                }
                Event::CallFailed(call) => self.hub.on_call_failed(call, self.now),
            }
            self.execute_hub_effects();
            self.engine.on_wake(self.now);
            self.execute_effects();
            self.hub.run(self.now);
            self.execute_hub_effects();
            self.execute_effects();
        }
    }

    fn execute_hub_effects(&mut self) {
        while let Some(effect) = self.hub.next_effect() {
            match effect {
                HubEffect::Call(call) => self.config.send(Arc::clone(self.post), call),
                HubEffect::CallFinished { kind, is_answered } => {
                    self.count(*self.config.metrics.call(kind, is_answered));
                    if !is_answered && kind != CallKind::Changes {
                        let message = "sandgate_ingress: the control plane did not answer a lookup";
                        log(LogLevel::Debug, message);
                    }
                }
                HubEffect::Notify(_, notice) | HubEffect::NotifyAll(notice) => {
                    self.engine.on_notice(notice, self.now);
                }
                HubEffect::Run => {
                    self.post.put(Event::Wake);
                }
            }
        }
    }

    /// Executes all effects.
    pub(super) fn execute_effects(&mut self) {
        while let Some(effect) = self.engine.next_effect() {
            match effect {
                Effect::Start => self.start(),
                Effect::Wake | Effect::RunHub => {
                    self.post.put(Event::Wake);
                }
                Effect::Forward(id) => match self.stream(id) {
                    Some(stream) => self.forward(id, &stream),
                    None => self.engine.on_stream_end(id),
                },
                Effect::AnswerPreflight { stream, origin, .. } => {
                    if let Some(stream) = self.stream(stream) {
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
                    if let Some(stream) = self.stream(stream) {
                        self.deny(&stream, &reply);
                    }
                }
                Effect::Close { stream: id, reason } => match self.stream(id) {
                    Some(stream) => {
                        stream.record(reason);
                        self.count(*self.config.metrics.stream_closed());
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
                        self.engine.on_client(id, stream.client(), self.now);
                    }
                }
                Effect::ReadByteCount(id) => {
                    if let Some(stream) = self.stream(id) {
                        self.engine.on_byte_count(id, stream.byte_count(), self.now);
                    }
                }
                Effect::RecheckStarted => self.count(*self.config.metrics.recheck()),
            }
        }
    }

    /// A stream of this worker that has not ended.
    fn stream(&self, id: StreamId) -> Option<Rc<Stream>> {
        match self.host {
            Host::Worker { worker, .. } => worker.streams.borrow().get(&id).map(Rc::clone),
            Host::Main(_) => None,
        }
    }

    /// Adds a new stream to the worker.
    pub(super) fn begin(&self, id: StreamId, stream: &Rc<Stream>) {
        if let Host::Worker { worker, .. } = self.host {
            worker.add(id, stream);
        }
    }

    /// Takes a step for a stream when the engine is unlocked.
    pub(super) fn later(&self, stream: &Rc<Stream>, step: Step) {
        if let Host::Worker { worker, .. } = self.host {
            worker.steps.borrow_mut().push_back((Rc::clone(stream), step));
        }
    }

    fn start(&mut self) {
        let since_epoch = time::since_epoch().unwrap_or_default();
        let number = self.config.next_watcher();
        self.hub.start(format!("{:x}-{number}-native", since_epoch.as_nanos()));
        self.post.put(Event::Wake);
    }

    /// Forwards a request that has waited.
    fn forward(&mut self, id: StreamId, stream: &Rc<Stream>) {
        let handle = stream.handle();
        let engine = &mut *self.engine;
        let forward = handle.with_fields(HeaderMap::RequestHeaders, move |fields| {
            engine.forward(id, Head::new(fields))
        });
        let applied = match forward {
            Ok(Some(forward)) => apply::forward(handle, &forward, self.config.ingress.upstream()),
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
        applied: Result<()>,
    ) -> Action {
        if applied.is_ok() {
            self.count(*self.config.metrics.permit());
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

    pub(super) fn answer_preflight(&self, stream: &Rc<Stream>, reply: Reply) {
        self.count(*self.config.metrics.preflight());
        stream.record("preflight");
        stream.enter(Phase::Answered);
        self.later(stream, Step::Reply(reply));
    }

    pub(super) fn deny(&self, stream: &Rc<Stream>, reply: &DenialReply) {
        if let Some(counter) = self.config.metrics.denial(reply.denial) {
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
