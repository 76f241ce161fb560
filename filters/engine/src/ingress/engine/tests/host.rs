//! A host that executes effects, and checks that each names a stream that can take it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sandgate_policy::gateway_api::MARKER_HEADER;
use sandgate_policy::header::{self, Field};
use sandgate_policy::ingress::config::IngressConfig;
use sandgate_policy::ingress::head::Head;
use sandgate_policy::ingress::slots::ClientAddress;

use super::fleet::Fleet;
use crate::ingress::{
    Call, CallId, CallKind, CallResponse, Clock, Effect, Engine, Now, RequestAction,
    RequestProperties, ResponseAction, StreamId, TICK_MS,
};

/// The state of a stream, as its client sees it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum State {
    Waiting,
    Live,
    /// The code of the denial.
    Denied(&'static str),
    Preflight,
    Api,
    /// The reason in access logs.
    Closed(&'static str),
    /// Its client has disconnected, or the response is complete.
    Ended,
}

/// An engine, and all that its host knows.
pub(super) struct Host {
    pub(super) engine: Engine,
    pub(super) fleet: Fleet,
    pub(super) streams: BTreeMap<StreamId, State>,
    pub(super) calls: BTreeMap<CallId, Call>,
    pub(super) must_wake: bool,
    /// How many calls of each kind have finished, and how many of them failed.
    pub(super) finished: Vec<(CallKind, bool)>,
    /// Streams that became anonymous while they were live.
    pub(super) conversions: usize,
    /// Whether the host can't send calls.
    pub(super) refuses_calls: bool,
    /// Whether the host can't apply the headers of a permitted request.
    pub(super) fails_to_forward: bool,
    /// Whether the host can't reset streams, and those that it could not reset.
    pub(super) fails_to_close: bool,
    pub(super) not_closed: BTreeSet<StreamId>,
    heads: BTreeMap<StreamId, Vec<(String, Vec<u8>)>>,
    clients: BTreeMap<StreamId, ClientAddress>,
    clock: Clock,
    wall: Duration,
    next: StreamId,
}

impl Host {
    pub(super) fn new(limits: &str) -> Self {
        let config = format!(
            r#"{{"version": 1, "domains": ["example.com"], "control_plane": {{"cluster": "c"}},
                "sandbox_cidrs": ["10.0.0.0/8"], "trusted_origins": ["https://app.example.org"],
                "limits": {limits}}}"#
        );
        let config = IngressConfig::from_json(config.as_bytes()).expect("a valid configuration");
        Self {
            engine: Engine::new(config),
            fleet: Fleet::new(),
            streams: BTreeMap::new(),
            calls: BTreeMap::new(),
            must_wake: false,
            finished: Vec::new(),
            conversions: 0,
            refuses_calls: false,
            fails_to_forward: false,
            fails_to_close: false,
            not_closed: BTreeSet::new(),
            heads: BTreeMap::new(),
            clients: BTreeMap::new(),
            clock: Clock::default(),
            wall: Duration::from_secs(1_800_000_000),
            next: 1,
        }
    }

    pub(super) fn now(&mut self) -> Now {
        self.clock.now(Some(self.wall))
    }

    /// Sends a request of a client to `<port>-<sandbox>`, with header fields.
    pub(super) fn request(&mut self, client: u8, host: &str, fields: &[(&str, &str)]) -> StreamId {
        let stream = self.next;
        self.next += 1;
        let fixed = [(":method", "GET"), (":path", "/")];
        let own = fields.iter().filter(|(name, _)| name.starts_with(':'));
        let fixed = fixed.iter().filter(|(name, _)| !fields.iter().any(|(own, _)| own == name));
        let rest = fields.iter().filter(|(name, _)| !name.starts_with(':'));
        let authority = format!("{host}.example.com");
        let authority = (":authority", authority.as_str());
        let head: Vec<(String, Vec<u8>)> = own
            .chain(fixed)
            .chain([&authority])
            .chain(rest)
            .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))
            .collect();
        let client = ClientAddress::of_connection(format!("192.0.2.{client}:4000").as_bytes());
        self.clients.insert(stream, client);
        let now = self.now();
        let read = || client;
        let action = self.engine.on_request_headers(
            stream,
            Head::new(&header::fields(&head)),
            &RequestProperties::new(&read, &|| false),
            now,
        );
        let state = match action {
            RequestAction::Wait => State::Waiting,
            RequestAction::Forward(_) if self.fails_to_forward => {
                let reply = self.engine.on_forward_failed(stream).expect("a live stream");
                State::Denied(reply.denial.code())
            }
            RequestAction::Forward(_) => State::Live,
            RequestAction::ForwardToApi(_) => State::Api,
            RequestAction::AnswerPreflight { .. } => State::Preflight,
            RequestAction::Deny(reply) => State::Denied(reply.denial.code()),
        };
        self.streams.insert(stream, state);
        self.heads.insert(stream, head);
        self.execute();
        stream
    }

    pub(super) fn state(&self, stream: StreamId) -> &State {
        self.streams.get(&stream).expect("a stream of this host")
    }

    fn set(&mut self, stream: StreamId, from: &State, to: State) {
        assert_eq!(self.state(stream), from, "an effect to {to:?}");
        self.streams.insert(stream, to);
    }

    fn execute(&mut self) {
        let now = self.now();
        while let Some(effect) = self.engine.next_effect() {
            match effect {
                Effect::Start => self.engine.start("watcher".into()),
                Effect::Wake => self.must_wake = true,
                Effect::Call(call) if self.refuses_calls => {
                    self.engine.on_call_failed(call.id, now);
                }
                Effect::Call(call) => {
                    self.calls.insert(call.id, call);
                }
                Effect::Forward(stream) => {
                    let head = self.heads.get(&stream).expect("a stream of this host");
                    let forward = self.engine.forward(stream, Head::new(&header::fields(head)));
                    assert!(forward.is_some(), "a stream to forward is live");
                    if self.fails_to_forward {
                        let reply = self.engine.on_forward_failed(stream).expect("a live stream");
                        self.set(stream, &State::Waiting, State::Denied(reply.denial.code()));
                    } else {
                        self.set(stream, &State::Waiting, State::Live);
                    }
                }
                Effect::AnswerPreflight { stream, .. } => {
                    self.set(stream, &State::Waiting, State::Preflight);
                }
                Effect::Deny(stream, reply) => {
                    self.set(stream, &State::Waiting, State::Denied(reply.denial.code()));
                }
                Effect::Close { stream, .. } if self.fails_to_close => {
                    assert_eq!(self.state(stream), &State::Live, "a stream is closed");
                    self.not_closed.insert(stream);
                    self.engine.on_close_failed(stream);
                }
                Effect::Close { stream, reason } => {
                    self.set(stream, &State::Live, State::Closed(reason));
                    self.engine.on_stream_end(stream);
                }
                Effect::ReadClient(stream) => {
                    assert_eq!(self.state(stream), &State::Live, "a client is read");
                    self.conversions += 1;
                    let client = self.clients.get(&stream).expect("a stream of this host");
                    self.engine.on_client(stream, *client, now);
                }
                Effect::ReadByteCount(stream) => {
                    assert_eq!(self.state(stream), &State::Live, "bytes are read");
                    self.engine.on_byte_count(stream, 100, now);
                }
                Effect::CallFinished { kind, is_answered } => {
                    self.finished.push((kind, is_answered));
                }
                Effect::RecheckStarted => {}
            }
        }
    }

    /// Runs the root until the engine has nothing left to do.
    pub(super) fn wake(&mut self) {
        for _ in 0..1_000 {
            if !std::mem::take(&mut self.must_wake) {
                return;
            }
            let now = self.now();
            self.engine.on_wake(now);
            self.execute();
        }
        panic!("the engine wakes the host for ever");
    }

    /// Advances the time tick by tick.
    pub(super) fn advance(&mut self, ms: u64) {
        for _ in 0..ms.div_ceil(TICK_MS) {
            self.wall += Duration::from_millis(TICK_MS);
            let now = self.now();
            self.engine.on_tick(now);
            self.execute();
            self.engine.on_wake(now);
            self.execute();
        }
    }

    /// The calls in flight, without the change feed's.
    pub(super) fn lookups(&self) -> Vec<CallId> {
        let lookups = self.calls.values().filter(|call| !call.path.contains("/changes"));
        lookups.map(|call| call.id).collect()
    }

    /// The call of the change feed, if it is in flight.
    pub(super) fn feed_call(&self) -> Option<CallId> {
        self.calls.values().find(|call| call.path.contains("/changes")).map(|call| call.id)
    }

    /// Responds to the call of the change feed, if it is in flight.
    pub(super) fn answer_feed(&mut self) {
        self.wake();
        self.feed_call().into_iter().for_each(|call| self.answer(call));
    }

    /// Responds to a call as the fleet does.
    pub(super) fn answer(&mut self, call: CallId) {
        if let Some(response) = self.prepare(call) {
            self.deliver(call, response);
        }
    }

    /// The status and body with which the fleet responds to a call now.
    pub(super) fn prepare(&mut self, call: CallId) -> Option<(u16, Vec<u8>)> {
        let call = self.calls.remove(&call)?;
        Some(self.fleet.answer(&call))
    }

    /// Delivers a response that the fleet has prepared.
    pub(super) fn deliver(&mut self, call: CallId, (status, body): (u16, Vec<u8>)) {
        let status = status.to_string();
        let headers: [Field<'_>; 2] = [(":status", status.as_bytes()), (MARKER_HEADER, b"v1")];
        self.respond(call, Some((&headers, &body)));
    }

    /// Ends a call as Envoy does if the control plane is down: by a 503 without the marker, or without a response.
    pub(super) fn fail(&mut self, call: CallId, with_response: bool) {
        self.calls.remove(&call);
        let headers: [Field<'_>; 1] = [(":status", b"503")];
        self.respond(call, with_response.then_some((&headers, b"no healthy upstream")));
    }

    fn respond(&mut self, call: CallId, response: Option<(&[Field<'_>], &[u8])>) {
        let now = self.now();
        let response =
            response.map(|(headers, body)| CallResponse { headers: Head::new(headers), body });
        self.engine.on_call_response(call, response.as_ref(), now);
        self.execute();
    }

    /// Answers lookups until none is left.
    pub(super) fn answer_all(&mut self) {
        for _ in 0..1_000 {
            self.wake();
            let lookups = self.lookups();
            if lookups.is_empty() {
                return;
            }
            lookups.into_iter().for_each(|call| self.answer(call));
        }
        panic!("the engine sends lookups for ever");
    }

    /// Ends a stream that has not ended.
    pub(super) fn end(&mut self, stream: StreamId) {
        if self.state(stream) != &State::Ended {
            self.streams.insert(stream, State::Ended);
            self.engine.on_stream_end(stream);
            self.execute();
        }
    }

    /// The headers of a sandbox's response arrive. Returns whether the response goes on.
    pub(super) fn response(&mut self, stream: StreamId, status: &str) -> bool {
        let headers = [(":status".to_owned(), status.as_bytes().to_vec())];
        let details = || Ok::<_, ()>(Some(b"via_upstream".to_vec()));
        let action =
            self.engine.on_response_headers(stream, Head::new(&header::fields(&headers)), details);
        matches!(action, Ok(Some(ResponseAction::Forward(_))))
    }

    /// The streams in a state.
    pub(super) fn streams_in(&self, state: &State) -> Vec<StreamId> {
        self.streams.iter().filter(|(_, it)| *it == state).map(|(stream, _)| *stream).collect()
    }
}
