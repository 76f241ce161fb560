//! A host that executes effects, and checks that each names a stream that can take it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use sandgate_policy::gateway_api::MARKER_HEADER;
use sandgate_policy::header::{self, Field};
use sandgate_policy::ingress::config::IngressConfig;
use sandgate_policy::ingress::head::Head;
use sandgate_policy::ingress::slots::ClientAddress;

use super::fleet::Fleet;
use crate::ingress::{
    Call, CallId, CallKind, CallResponse, Clock, Effect, Engine, Hub, HubEffect, Notice, Now,
    RequestAction, RequestProperties, ResponseAction, StreamId, TICK_MS, WorkerId,
};

/// The streams of a worker have numbers from this number times the worker's index on. Each engine numbers its streams
/// from 1.
const STREAMS_PER_WORKER: StreamId = 1_000_000;

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

/// A worker, and what its host knows of it.
pub(super) struct Worker {
    pub(super) id: WorkerId,
    pub(super) engine: Engine,
    pub(super) must_wake: bool,
    /// The notices that have not reached the engine.
    pub(super) inbox: VecDeque<Notice>,
}

/// A hub and its workers, and all that their host knows.
pub(super) struct Host {
    pub(super) hub: Arc<Hub>,
    pub(super) workers: Vec<Worker>,
    pub(super) must_run_hub: bool,
    /// Whether notices wait in the inbox until [`Self::read_inbox`], as if other threads had sent them.
    pub(super) delays_notices: bool,
    pub(super) fleet: Fleet,
    pub(super) streams: BTreeMap<StreamId, State>,
    pub(super) calls: BTreeMap<CallId, Call>,
    /// How many calls of each kind have finished, and how many of them failed.
    pub(super) finished: Vec<(CallKind, bool)>,
    /// Streams that became anonymous while they were live.
    pub(super) conversions: usize,
    /// The responses that were prepared and not delivered.
    pub(super) prepared: VecDeque<(CallId, (u16, Vec<u8>))>,
    /// The versions of the fleet with which the feed's calls were answered.
    feed_versions: BTreeMap<CallId, usize>,
    /// The last version that the feed has reported, and the time of its first response.
    pub(super) reported: Option<(usize, Now)>,
    /// Whether the host can't send calls.
    pub(super) refuses_calls: bool,
    /// A worker that no tick reaches.
    pub(super) busy: Option<usize>,
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
        Self::with_workers(1, limits)
    }

    pub(super) fn with_workers(workers: usize, limits: &str) -> Self {
        let config = format!(
            r#"{{"version": 1, "domains": ["example.com"], "control_plane": {{"cluster": "c"}},
                "sandbox_cidrs": ["10.0.0.0/8"], "trusted_origins": ["https://app.example.org"],
                "limits": {limits}}}"#
        );
        let config = IngressConfig::from_json(config.as_bytes()).expect("a valid configuration");
        let hub = Arc::new(Hub::new(config));
        let worker = |_| {
            let id = hub.add_worker();
            let engine = Engine::new(Arc::clone(&hub), id);
            Worker { id, engine, must_wake: false, inbox: VecDeque::new() }
        };
        Self {
            workers: (0..workers).map(worker).collect(),
            hub,
            must_run_hub: false,
            delays_notices: false,
            fleet: Fleet::new(),
            streams: BTreeMap::new(),
            calls: BTreeMap::new(),
            finished: Vec::new(),
            conversions: 0,
            prepared: VecDeque::new(),
            feed_versions: BTreeMap::new(),
            reported: None,
            refuses_calls: false,
            busy: None,
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

    pub(super) fn worker_of(&self, stream: StreamId) -> &Worker {
        &self.workers[(stream / STREAMS_PER_WORKER) as usize]
    }

    /// The engine of a stream, and its number there.
    fn engine_of(&mut self, stream: StreamId) -> (&mut Engine, StreamId) {
        let worker = &mut self.workers[(stream / STREAMS_PER_WORKER) as usize];
        (&mut worker.engine, stream % STREAMS_PER_WORKER)
    }

    pub(super) fn is_live(&self, stream: StreamId) -> bool {
        self.worker_of(stream).engine.is_live(stream % STREAMS_PER_WORKER)
    }

    pub(super) fn now(&mut self) -> Now {
        self.clock.now(Some(self.wall))
    }

    /// Sends a request of a client to `<port>-<sandbox>`, with header fields.
    pub(super) fn request(&mut self, client: u8, host: &str, fields: &[(&str, &str)]) -> StreamId {
        self.request_on(0, client, host, fields)
    }

    /// Sends a request to one of the workers.
    pub(super) fn request_on(
        &mut self,
        worker: usize,
        client: u8,
        host: &str,
        fields: &[(&str, &str)],
    ) -> StreamId {
        let base = StreamId::try_from(worker).unwrap() * STREAMS_PER_WORKER;
        let stream = base + self.next;
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
        let engine = &mut self.workers[worker].engine;
        let action = engine.on_request_headers(
            stream - base,
            Head::new(&header::fields(&head)),
            &RequestProperties::new(&read, &|| false),
            now,
        );
        let state = match action {
            RequestAction::Wait => State::Waiting,
            RequestAction::Forward(_) if self.fails_to_forward => {
                let reply = engine.on_forward_failed(stream - base).expect("a live stream");
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
        loop {
            let hub = self.hub.next_effect();
            let is_idle = hub.is_none();
            hub.into_iter().for_each(|effect| self.execute_hub(effect));
            let mut has_effects = false;
            for worker in 0..self.workers.len() {
                has_effects |= self.execute_worker(worker);
            }
            if is_idle && !has_effects {
                return;
            }
        }
    }

    fn execute_hub(&mut self, effect: HubEffect) {
        let now = self.now();
        match effect {
            HubEffect::Call(call) if self.refuses_calls => self.hub.on_call_failed(call.id, now),
            HubEffect::Call(call) => {
                self.calls.insert(call.id, call);
            }
            HubEffect::CallFinished { kind, is_answered } => {
                self.finished.push((kind, is_answered))
            }
            HubEffect::Notify(id, notice) => {
                let worker = self.workers.iter().position(|worker| worker.id == id);
                self.notify(worker.expect("a worker of this hub"), notice);
            }
            HubEffect::NotifyAll(notice) => {
                (0..self.workers.len()).for_each(|worker| self.notify(worker, notice.clone()));
            }
            HubEffect::Run => self.must_run_hub = true,
        }
    }

    fn notify(&mut self, worker: usize, notice: Notice) {
        self.workers[worker].inbox.push_back(notice);
        if !self.delays_notices {
            self.read_inbox(worker);
        }
    }

    /// Passes the notices in an inbox to the engine.
    pub(super) fn read_inbox(&mut self, worker: usize) {
        let now = self.now();
        let Worker { engine, inbox, .. } = &mut self.workers[worker];
        inbox.drain(..).for_each(|notice| engine.on_notice(notice, now));
    }

    /// Executes the effects of a worker. Returns whether there were any.
    fn execute_worker(&mut self, worker: usize) -> bool {
        let now = self.now();
        let mut has_effects = false;
        while let Some(effect) = self.workers[worker].engine.next_effect() {
            has_effects = true;
            self.execute_effect(worker, effect, now);
        }
        has_effects
    }

    fn execute_effect(&mut self, worker: usize, effect: Effect, now: Now) {
        let base = StreamId::try_from(worker).unwrap() * STREAMS_PER_WORKER;
        let engine = &mut self.workers[worker].engine;
        match effect {
            Effect::Start => {
                self.hub.start("watcher".into());
                self.must_run_hub = true;
            }
            Effect::Wake => self.workers[worker].must_wake = true,
            Effect::RunHub => self.must_run_hub = true,
            Effect::Forward(stream) => {
                let head = self.heads.get(&(base + stream)).expect("a stream of this host");
                let forward = engine.forward(stream, Head::new(&header::fields(head)));
                assert!(forward.is_some(), "a stream to forward is live");
                if self.fails_to_forward {
                    let reply = engine.on_forward_failed(stream).expect("a live stream");
                    let denied = State::Denied(reply.denial.code());
                    self.set(base + stream, &State::Waiting, denied);
                } else {
                    self.set(base + stream, &State::Waiting, State::Live);
                }
            }
            Effect::AnswerPreflight { stream, .. } => {
                self.set(base + stream, &State::Waiting, State::Preflight);
            }
            Effect::Deny(stream, reply) => {
                let denied = State::Denied(reply.denial.code());
                self.set(base + stream, &State::Waiting, denied);
            }
            Effect::Close { stream, .. } if self.fails_to_close => {
                engine.on_close_failed(stream);
                assert_eq!(self.state(base + stream), &State::Live, "a stream is closed");
                self.not_closed.insert(base + stream);
            }
            Effect::Close { stream, reason } => {
                engine.on_stream_end(stream);
                self.set(base + stream, &State::Live, State::Closed(reason));
            }
            Effect::ReadClient(stream) => {
                self.conversions += 1;
                let client = self.clients.get(&(base + stream)).expect("a stream of this host");
                engine.on_client(stream, *client, now);
                assert_eq!(self.state(base + stream), &State::Live, "a client is read");
            }
            Effect::ReadByteCount(stream) => {
                engine.on_byte_count(stream, 100, now);
                assert_eq!(self.state(base + stream), &State::Live, "bytes are read");
            }
            Effect::RecheckStarted => {}
        }
    }

    /// Whether the host could not close a stream of a worker.
    pub(super) fn has_failed_to_close(&self, worker: &Worker, stream: StreamId) -> bool {
        let index = self.workers.iter().position(|other| other.id == worker.id).unwrap();
        let base = StreamId::try_from(index).unwrap() * STREAMS_PER_WORKER;
        self.not_closed.contains(&(base + stream))
    }

    /// Whether an engine or the hub has asked to be woken.
    pub(super) fn must_wake(&self) -> bool {
        self.must_run_hub
            || self.workers.iter().any(|worker| worker.must_wake || !worker.inbox.is_empty())
    }

    /// Wakes the hub and the engines until they have nothing left to do.
    pub(super) fn wake(&mut self) {
        for _ in 0..1_000 {
            if !self.must_wake() {
                return;
            }
            for worker in 0..self.workers.len() {
                let Worker { must_wake, inbox, .. } = &mut self.workers[worker];
                if std::mem::take(must_wake) || !inbox.is_empty() {
                    self.wake_worker(worker);
                }
            }
            if self.must_run_hub {
                self.run_hub();
            }
        }
        panic!("the host is woken for ever");
    }

    pub(super) fn run_hub(&mut self) {
        self.must_run_hub = false;
        let now = self.now();
        self.hub.run(now);
        self.execute();
    }

    /// Runs a worker, which reads its inbox first.
    pub(super) fn wake_worker(&mut self, worker: usize) {
        self.read_inbox(worker);
        let now = self.now();
        self.workers[worker].engine.on_wake(now);
        self.execute();
    }

    /// Advances the time tick by tick.
    pub(super) fn advance(&mut self, ms: u64) {
        for _ in 0..ms.div_ceil(TICK_MS) {
            self.wall += Duration::from_millis(TICK_MS);
            let now = self.now();
            self.hub.on_tick(now);
            self.execute();
            for worker in 0..self.workers.len() {
                if !self.is_busy(worker) {
                    self.read_inbox(worker);
                    self.workers[worker].engine.on_tick(now);
                    self.execute();
                    self.wake_worker(worker);
                }
            }
            self.run_hub();
        }
    }

    /// Whether the thread of a worker does something else for long.
    fn is_busy(&self, worker: usize) -> bool {
        self.busy == Some(worker)
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
        if call.path.contains("/changes") {
            self.feed_versions.insert(call.id, self.fleet.version());
        }
        Some(self.fleet.answer(&call))
    }

    /// Delivers a response that the fleet has prepared.
    pub(super) fn deliver(&mut self, call: CallId, (status, body): (u16, Vec<u8>)) {
        if let Some(version) = self.feed_versions.remove(&call) {
            let first = self.reported.map_or_else(|| self.now(), |(_, first)| first);
            self.reported = Some((version, first));
        }
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
        self.hub.on_call_response(call, response.as_ref(), now);
        self.execute();
        // As a host with one thread does. Other threads run when they are woken.
        if !self.delays_notices {
            (0..self.workers.len()).for_each(|worker| self.wake_worker(worker));
        }
        self.run_hub();
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
            let (engine, local) = self.engine_of(stream);
            engine.on_stream_end(local);
            self.execute();
        }
    }

    /// The headers of a sandbox's response arrive. Returns whether the response goes on.
    pub(super) fn response(&mut self, stream: StreamId, status: &str) -> bool {
        let headers = [(":status".to_owned(), status.as_bytes().to_vec())];
        let details = || Ok::<_, ()>(Some(b"via_upstream".to_vec()));
        let (engine, local) = self.engine_of(stream);
        let action =
            engine.on_response_headers(local, Head::new(&header::fields(&headers)), details);
        matches!(action, Ok(ResponseAction::Forward(_)))
    }

    /// The streams in a state.
    pub(super) fn streams_in(&self, state: &State) -> Vec<StreamId> {
        self.streams.iter().filter(|(_, it)| *it == state).map(|(stream, _)| *stream).collect()
    }
}
