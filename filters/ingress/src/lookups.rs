//! Questions to the control plane: one under way for all that wait for the same answer.

use std::collections::BTreeMap;
use std::time::Duration;

use sandgate_hostcalls::Result;
use sandgate_hostcalls::http::{self, Answer, Call};
use sandgate_policy::gateway_api::{
    Identity, Introspection, MARKER_HEADER, MARKER_VALUE, ResumeRequest, Sandbox,
};
use sandgate_policy::ingress::config::IngressConfig;
use sandgate_policy::ingress::credential::{Credential, CredentialKey};
use sandgate_policy::ingress::slots::Client;

use crate::metrics::Asked;

use self::fair_queue::FairQueue;

mod fair_queue;

/// Larger than any answer; an answer beyond it is not one of ours.
pub(crate) const ANSWER_MAX: usize = 1 << 20;
/// How long the control plane holds one resume call, in milliseconds. Who waits longer asks again.
const RESUME_HOLD_MS: u32 = 25_000;
/// After so many failures in a row the control plane is left alone…
const FAILURES: u32 = 5;
/// …for this long, in milliseconds, and whoever asks is told at once that it can't be asked.
const PAUSE_MS: u64 = 1_000;

/// What a question is about. Equal keys share one question.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Key {
    Caller(CredentialKey),
    Resume { sandbox_id: String, public: bool },
    Sandbox(String),
}

impl Key {
    pub(crate) fn asked(&self) -> Asked {
        match self {
            Self::Caller(_) => Asked::Caller,
            Self::Resume { .. } => Asked::Resume,
            Self::Sandbox(_) => Asked::Sandbox,
        }
    }
}

/// One question and the streams that wait for its answer. No `Debug`: the body may hold a secret.
pub(crate) struct Flight {
    pub(crate) waiters: Vec<u32>,
    /// When it was sent, in milliseconds.
    pub(crate) asked_at: u64,
    /// What it is about changed while it was under way: its answer may tell of before.
    pub(crate) outdated: bool,
    body: Option<Vec<u8>>,
    /// The queue that counts it.
    kind: Kind,
    /// The client whose request asked first.
    client: Client,
}

/// What a lookup is for. Each kind has a queue with a capacity of its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    /// A waiting request.
    Request,
    /// A live stream that is judged again. A flood of requests must not delay a revocation.
    LiveStream,
    /// A resume, which the control plane holds for long.
    Resume,
}

/// Who asks a question, for the order in which questions are sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Asker {
    /// A request that waits, of this client.
    Request(Client),
    /// A live stream that is judged again.
    LiveStream,
}

/// What the control plane said.
pub(crate) enum Fact {
    Caller(Option<Identity>),
    Sandbox(Option<Box<Sandbox>>),
    NotResumable,
    /// Too soon for another resume through a public port; seconds until the next.
    ResumeLimited(u32),
}

/// All questions of a VM.
pub(crate) struct Lookups {
    flights: BTreeMap<Key, Flight>,
    sent: BTreeMap<u32, Key>,
    requests: FairQueue,
    live_streams: FairQueue,
    resumes: FairQueue,
    failures: u32,
    silent_until: u64,
}

impl Lookups {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            flights: BTreeMap::new(),
            sent: BTreeMap::new(),
            requests: FairQueue::new(capacity),
            live_streams: FairQueue::new(capacity),
            resumes: FairQueue::new(capacity),
            failures: 0,
            silent_until: 0,
        }
    }

    fn queue(&mut self, kind: Kind) -> &mut FairQueue {
        match kind {
            Kind::Request => &mut self.requests,
            Kind::LiveStream => &mut self.live_streams,
            Kind::Resume => &mut self.resumes,
        }
    }

    /// Has `stream` wait for the answer to `key`; false when it can't be asked now. How many requests
    /// may wait, and how many streams are live, bounds how many questions there are.
    pub(crate) fn ask(
        &mut self,
        key: &Key,
        who: Option<&Credential>,
        stream: u32,
        asker: Asker,
        now: u64,
    ) -> bool {
        let (kind, client) = match (key, asker) {
            (Key::Resume { .. }, Asker::Request(client)) => (Kind::Resume, client),
            (_, Asker::Request(client)) => (Kind::Request, client),
            (_, Asker::LiveStream) => (Kind::LiveStream, Client::Unknown),
        };
        if let Some(flight) = self.flights.get_mut(key) {
            if flight.waiters.last() != Some(&stream) {
                flight.waiters.push(stream);
            }
            if asker == Asker::LiveStream {
                self.hasten(key);
            }
            return true;
        }
        if now < self.silent_until {
            return false;
        }
        let body = match key {
            Key::Sandbox(_) => None,
            Key::Caller(_) => {
                who.and_then(|who| serde_json::to_vec(&who.introspect_request()).ok())
            }
            Key::Resume { public, .. } => {
                let request = ResumeRequest { wait_ms: RESUME_HOLD_MS.into(), public: *public };
                serde_json::to_vec(&request).ok()
            }
        };
        self.flights.insert(
            key.clone(),
            Flight { waiters: vec![stream], asked_at: now, outdated: false, body, kind, client },
        );
        self.queue(kind).add(client, key.clone());
        true
    }

    /// Moves a lookup that is not sent yet into the queue of live streams.
    fn hasten(&mut self, key: &Key) {
        let Some((kind, client)) = self.flights.get(key).map(|it| (it.kind, it.client)) else {
            return;
        };
        if kind != Kind::LiveStream && self.queue(kind).withdraw(client, key) {
            self.live_streams.add(Client::Unknown, key.clone());
            if let Some(flight) = self.flights.get_mut(key) {
                (flight.kind, flight.client) = (Kind::LiveStream, Client::Unknown);
            }
        }
    }

    /// Stops having `stream` wait: it has ended.
    pub(crate) fn leave(&mut self, key: &Key, stream: u32) {
        let Some(flight) = self.flights.get_mut(key) else { return };
        flight.waiters.retain(|waiter| *waiter != stream);
        let (is_forsaken, kind, client) = (flight.waiters.is_empty(), flight.kind, flight.client);
        if is_forsaken && self.queue(kind).withdraw(client, key) {
            self.flights.remove(key);
        }
    }

    pub(crate) fn is_under_way(&self, key: &Key) -> bool {
        self.flights.contains_key(key)
    }

    /// Whether something can be sent now.
    pub(crate) fn can_send(&self) -> bool {
        self.live_streams.can_send() || self.requests.can_send() || self.resumes.can_send()
    }

    /// Marks the questions that were sent before a change which `concerns` them: an answer that
    /// overtakes the change, or is overtaken by it, must not be believed.
    pub(crate) fn outdate(&mut self, concerns: impl Fn(&Key) -> bool) {
        for key in self.sent.values().filter(|key| concerns(key)) {
            if let Some(flight) = self.flights.get_mut(key) {
                flight.outdated = true;
            }
        }
    }

    /// Sends what is to be sent. The root context must be the effective one. Gives back what could
    /// not be sent, as failed.
    pub(crate) fn send(&mut self, config: &IngressConfig, now: u64) -> Vec<(Key, Flight)> {
        let mut failed = Vec::new();
        while let Some(key) = self.next() {
            let Some(flight) = self.flights.get_mut(&key) else { continue };
            flight.asked_at = now;
            let body = flight.body.take();
            if let Ok(token) = dispatch(&key, body.as_deref(), config) {
                self.sent.insert(token, key);
            } else if let Some(flight) = self.end(&key) {
                self.note(false, now);
                failed.push((key, flight));
            }
        }
        failed
    }

    fn next(&mut self) -> Option<Key> {
        let live_stream = self.live_streams.next();
        live_stream.or_else(|| self.requests.next()).or_else(|| self.resumes.next())
    }

    /// A question that was sent, or should have been, is over.
    fn end(&mut self, key: &Key) -> Option<Flight> {
        let flight = self.flights.remove(key)?;
        self.queue(flight.kind).done(flight.client);
        Some(flight)
    }

    /// The question that a call's answer belongs to.
    pub(crate) fn take(&mut self, token: u32) -> Option<(Key, Flight)> {
        let key = self.sent.remove(&token)?;
        let flight = self.end(&key)?;
        Some((key, flight))
    }

    /// Remembers whether the control plane could be asked.
    pub(crate) fn note(&mut self, answered: bool, now: u64) {
        if answered {
            self.failures = 0;
            self.silent_until = 0;
            return;
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures >= FAILURES {
            self.silent_until = now.saturating_add(PAUSE_MS);
        }
    }
}

fn dispatch(key: &Key, body: Option<&[u8]>, config: &IngressConfig) -> Result<u32> {
    let (method, path, hold_ms) = match key {
        Key::Sandbox(name) => ("GET", format!("/gateway/v1/sandboxes/{name}"), 0),
        Key::Caller(_) => ("POST", "/gateway/v1/credentials/introspect".to_owned(), 0),
        Key::Resume { sandbox_id, .. } => {
            ("POST", format!("/gateway/v1/sandboxes/{sandbox_id}/resume"), RESUME_HOLD_MS)
        }
    };
    let control_plane = config.control_plane();
    let timeout_ms = control_plane.timeout_ms.saturating_add(hold_ms);
    http::dispatch(&Call {
        cluster: &control_plane.cluster,
        method,
        authority: &control_plane.authority,
        path: &path,
        body,
        timeout: Duration::from_millis(timeout_ms.into()),
    })
}

/// Reads an answer; `None` when it is not one that the control plane gave.
pub(crate) fn read(key: &Key, answer: &Answer) -> Option<Fact> {
    // Envoy shows its own failures as 503 and 504 answers, without the marker.
    if answer.header(MARKER_HEADER) != Some(MARKER_VALUE.as_bytes()) {
        return None;
    }
    let sandbox = || serde_json::from_slice::<Sandbox>(&answer.body).ok().map(Box::new);
    match (key, answer.status()) {
        (Key::Sandbox(_) | Key::Resume { .. }, 200) => Some(Fact::Sandbox(Some(sandbox()?))),
        (Key::Sandbox(_) | Key::Resume { .. }, 404) => Some(Fact::Sandbox(None)),
        (Key::Resume { .. }, 409) => Some(Fact::NotResumable),
        (Key::Resume { .. }, 429) => {
            let seconds = answer.header("retry-after").and_then(|v| std::str::from_utf8(v).ok());
            Some(Fact::ResumeLimited(seconds.and_then(|v| v.parse().ok()).unwrap_or(1)))
        }
        (Key::Caller(_), 200) => {
            let introspection = serde_json::from_slice::<Introspection>(&answer.body).ok()?;
            Some(Fact::Caller(introspection.identity))
        }
        _ => None,
    }
}
