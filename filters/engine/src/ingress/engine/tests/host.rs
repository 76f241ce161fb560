//! A host that executes effects, and checks that each names a stream that can take it.

mod control_plane;
mod effects;
mod time;

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

    /// Whether the host could not close a stream of a worker.
    pub(super) fn has_failed_to_close(&self, worker: &Worker, stream: StreamId) -> bool {
        let index = self.workers.iter().position(|other| other.id == worker.id).unwrap();
        let base = StreamId::try_from(index).unwrap() * STREAMS_PER_WORKER;
        self.not_closed.contains(&(base + stream))
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
