//! The hooks of one stream.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use sandgate_engine::ingress::{
    DenialReply, Metrics, Reply, RequestAction, RequestProperties, ResponseAction, StreamId,
};
use sandgate_policy::ingress::denial::Denial;
use sandgate_policy::ingress::head::Head;
use sandgate_policy::ingress::recipient::Recipient;
use sandgate_policy::ingress::slots::ClientAddress;

use super::Action;
use super::apply;
use super::config::Config;
use super::execute::Run;
use super::worker::{Step, Worker};
use crate::abi::{Counter, HeaderMap, Refused, Result, StreamHandle};

/// How far a stream is, so that a panic can end it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Phase {
    /// Not decided: a local reply can be sent.
    Undecided,
    /// Forwarded to a sandbox.
    Live,
    /// Forwarded to the public API.
    ToApi,
    /// A local reply was sent.
    Answered,
}

/// One stream of a worker.
pub(crate) struct Stream {
    id: StreamId,
    handle: StreamHandle,
    config: Arc<Config>,
    worker: Rc<Worker>,
    phase: Cell<Phase>,
    /// For access logs. Envoy takes it once, so it is set when the stream ends.
    decision: Cell<&'static str>,
    bytes: Cell<u64>,
    /// Set when the stream is to be reset: from then on nothing of it may pass.
    is_closed: Cell<bool>,
}

impl Stream {
    pub(crate) fn new(config: &Arc<Config>, handle: StreamHandle) -> Rc<Self> {
        let worker = Worker::of(&config.shared);
        Rc::new(Self {
            id: worker.next_stream(),
            handle,
            config: Arc::clone(config),
            worker,
            phase: Cell::new(Phase::Undecided),
            decision: Cell::new(""),
            bytes: Cell::new(0),
            is_closed: Cell::new(false),
        })
    }

    pub(crate) fn handle(&self) -> &StreamHandle {
        &self.handle
    }

    pub(super) fn metrics(&self) -> &Metrics<Counter> {
        &self.config.metrics
    }

    pub(super) fn record(&self, decision: &'static str) {
        self.decision.set(decision);
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.phase.set(phase);
    }

    pub(super) fn is_undecided(&self) -> bool {
        self.phase.get() == Phase::Undecided
    }

    /// The stream will be reset.
    pub(super) fn close(&self) {
        self.is_closed.set(true);
        self.enter(Phase::Answered);
    }

    /// The action of a hook, unless the stream was closed while the hook ran.
    fn unless_closed(&self, action: Action) -> Action {
        if self.is_closed.get() { Action::Pause } else { action }
    }

    pub(super) fn client(&self) -> ClientAddress {
        ClientAddress::of_connection(&self.handle.client_address().unwrap_or_default())
    }

    /// The recipient of a denial after an error, for which the engine has not made one.
    pub(super) fn recipient(&self) -> Recipient {
        let config = self.config.shared.ingress();
        self.handle
            .with_fields(HeaderMap::RequestHeaders, |fields| {
                Recipient::of(Head::new(fields), config)
            })
            .unwrap_or_else(|Refused| Recipient::unknown())
    }

    pub(super) fn byte_count(&self) -> u64 {
        self.bytes.get()
    }

    pub(crate) fn on_request_headers(self: &Rc<Self>) -> Action {
        self.worker.run_first(self.id, self, |run, added| {
            added.and_then(|()| self.decide(run)).unwrap_or_else(|Refused| {
                run.deny_after_error(self);
                Action::Pause
            })
        })
    }

    fn decide(self: &Rc<Self>, run: &mut Run<'_>) -> Result<Action> {
        let (now, engine) = (run.now(), &mut *run.engine);
        let (action, answer) =
            self.handle.with_fields(HeaderMap::RequestHeaders, move |fields| {
                let head = Head::new(fields);
                let read_client = || self.client();
                let is_http10 = || self.is_http10();
                let properties = RequestProperties::new(&read_client, &is_http10);
                let mut action = engine.on_request_headers(self.id, head, &properties, now);
                let answer = match &mut action {
                    RequestAction::Forward(forward) => {
                        apply::add_new_fields(&mut forward.changes, head);
                        None
                    }
                    RequestAction::AnswerPreflight { origin } => {
                        Some(Reply::preflight(origin, head))
                    }
                    _ => None,
                };
                (action, answer)
            })?;
        Ok(match action {
            RequestAction::Wait => Action::Pause,
            RequestAction::Forward(forward) => {
                let applied = self.worker.forward(&self.handle, &forward, now);
                run.forwarded(self.id, self, applied)
            }
            RequestAction::ForwardToApi(changes) => {
                match apply::change(&self.handle, HeaderMap::RequestHeaders, &changes) {
                    Ok(()) => {
                        self.record("api");
                        self.enter(Phase::ToApi);
                        Action::Continue
                    }
                    Err(Refused) => {
                        run.deny_after_error(self);
                        Action::Pause
                    }
                }
            }
            RequestAction::AnswerPreflight { .. } => {
                if let Some(answer) = answer {
                    run.answer_preflight(self, answer);
                }
                Action::Pause
            }
            RequestAction::Deny(reply) => {
                run.deny(self, &reply);
                Action::Pause
            }
        })
    }

    /// Whether the request is of HTTP/1.0. If Envoy does not say, it may be.
    fn is_http10(&self) -> bool {
        self.handle
            .request_protocol()
            .is_none_or(|protocol| matches!(&*protocol, b"" | b"HTTP/1.0"))
    }

    pub(crate) fn on_response_headers(self: &Rc<Self>) -> Action {
        let action = self.worker.run(self, |run| {
            let code_details = || Ok::<_, Refused>(self.handle.response_code_details());
            let engine = &mut *run.engine;
            let action = self
                .handle
                .with_fields(HeaderMap::ResponseHeaders, |fields| {
                    engine.on_response_headers(self.id, Head::new(fields), code_details)
                })
                .flatten();
            match action {
                Ok(ResponseAction::Forward(changes)) => {
                    let map = HeaderMap::ResponseHeaders;
                    self.or_reset(run, apply::change(&self.handle, map, &changes))
                }
                Ok(ResponseAction::Replace(reply)) => {
                    run.deny(self, &reply);
                    Action::Pause
                }
                Err(error) => self.or_reset(run, Err(error)),
            }
        });
        self.unless_closed(action)
    }

    pub(crate) fn on_trailers(self: &Rc<Self>, map: HeaderMap) -> Action {
        let action = self.worker.run(self, |run| {
            if !run.engine.is_live(self.id) {
                return Action::Continue;
            }
            let engine = &mut *run.engine;
            let changes = self.handle.with_fields(map, |fields| {
                let trailers = Head::new(fields);
                match map {
                    HeaderMap::RequestHeaders | HeaderMap::RequestTrailers => {
                        engine.on_request_trailers(self.id, trailers)
                    }
                    HeaderMap::ResponseHeaders | HeaderMap::ResponseTrailers => {
                        engine.on_response_trailers(self.id, trailers)
                    }
                }
            });
            let applied = changes.and_then(|changes| apply::change(&self.handle, map, &changes));
            self.or_reset(run, applied)
        });
        self.unless_closed(action)
    }

    /// Resets the stream if its response or trailers can't be cleaned.
    fn or_reset(self: &Rc<Self>, run: &Run<'_>, cleaned: Result<()>) -> Action {
        if cleaned.is_ok() {
            return Action::Continue;
        }
        run.count_host_error();
        run.later(self, Step::Reset);
        Action::Pause
    }

    /// A part of the body passes.
    pub(crate) fn on_body(&self, is_request: bool) {
        let received = u64::try_from(self.handle.received_bytes(is_request)).unwrap_or_default();
        self.bytes.set(self.bytes.get().wrapping_add(received));
    }

    /// The worker was woken: the inbox is read.
    pub(crate) fn on_scheduled(self: &Rc<Self>) {
        self.worker.run(self, |_| ());
    }

    /// The stream has ended, and Envoy writes the access log next.
    pub(crate) fn on_complete(self: &Rc<Self>) {
        if !self.decision.get().is_empty() {
            // A stream does not fail because its log line lacks the decision.
            let _ = self.handle.set_property(apply::DECISION, self.decision.get());
        }
    }

    /// Envoy destroys the stream.
    pub(crate) fn on_end(self: &Rc<Self>) {
        self.worker.run_end(self, |run| {
            run.engine.on_stream_end(self.id);
            self.worker.remove(self.id);
        });
    }

    /// A hook of this stream has panicked. The engine begins anew, which ends all streams of the worker.
    pub(crate) fn on_panic(self: &Rc<Self>) {
        self.handle.count(*self.metrics().host_error());
        if matches!(self.phase.get(), Phase::ToApi | Phase::Answered) {
            // The hook may have been that of the response, which is held back.
            self.worker.steps.borrow_mut().push_back((Rc::clone(self), Step::Reset));
        }
        self.abandon();
        self.worker.run(self, |_| ());
    }

    /// Ends the stream, which its engine can't end any more: with a denial if no response has begun.
    pub(super) fn abandon(self: &Rc<Self>) {
        let step = match self.phase.get() {
            Phase::Undecided => {
                let denial = Denial::SandboxUpstreamError;
                self.record(denial.code());
                self.enter(Phase::Answered);
                Step::Reply(Reply::denial(&DenialReply::new(denial, self.recipient())))
            }
            Phase::Live => {
                self.close();
                Step::Reset
            }
            // The engine decides nothing of what follows.
            Phase::ToApi | Phase::Answered => return,
        };
        self.worker.steps.borrow_mut().push_back((Rc::clone(self), step));
    }
}
