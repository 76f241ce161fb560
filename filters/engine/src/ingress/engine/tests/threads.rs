//! Several threads on one hub: what the views of the workers read while another thread changes the caches.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use sandgate_policy::gateway_api::MARKER_HEADER;
use sandgate_policy::header::Field;
use sandgate_policy::ingress::config::IngressConfig;
use sandgate_policy::ingress::head::Head;
use sandgate_policy::ingress::slots::ClientAddress;

use super::fleet::{Fleet, KEY};
use crate::ingress::{
    Call, CallId, CallResponse, Effect, Engine, Hub, HubEffect, Notice, Now, RequestAction,
    RequestProperties, StreamId, WorkerId,
};

const WORKERS: usize = 3;
/// How often the credential is revoked, or becomes valid again.
const CHANGES: usize = 400;
/// The most streams that a worker keeps open.
const STREAMS: usize = 8;

/// What the threads share beside the hub. The credential is valid in even versions.
struct World {
    hub: Arc<Hub>,
    fleet: Mutex<Fleet>,
    /// The version that is true now, or will be in a moment.
    current: AtomicUsize,
    /// The last version that the feed has reported.
    reported: AtomicUsize,
    /// Set when no change follows any more.
    is_over: AtomicBool,
    begun: Instant,
}

impl World {
    fn now(&self) -> Now {
        let ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap();
        Now { ms, unix_seconds: 1_800_000_000 }
    }
}

/// A response that has not arrived.
struct OnTheWay {
    call: CallId,
    status: u16,
    body: Vec<u8>,
    /// The version that a response of the feed reports.
    reports: Option<usize>,
}

/// The thread that drives the hub.
struct Driver {
    world: Arc<World>,
    workers: BTreeMap<WorkerId, Sender<Notice>>,
    calls: VecDeque<Call>,
    responses: Vec<OnTheWay>,
    random: usize,
}

impl Driver {
    fn random(&mut self, below: usize) -> usize {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.random >> 33) % below
    }

    /// Sends calls, and delivers one response. Responses may overtake each other.
    fn step(&mut self) {
        let world = Arc::clone(&self.world);
        world.hub.run(world.now());
        self.execute();
        while let Some(call) = self.calls.pop_front() {
            let version = world.current.load(Ordering::Acquire);
            let is_feed = call.path.contains("/changes");
            let (status, body) = world.fleet.lock().unwrap().answer(&call);
            let reports = is_feed.then_some(version);
            self.responses.push(OnTheWay { call: call.id, status, body, reports });
        }
        if !self.responses.is_empty() {
            let index = self.random(self.responses.len());
            let OnTheWay { call, status, body, reports } = self.responses.swap_remove(index);
            let status = status.to_string();
            let headers: [Field<'_>; 2] = [(":status", status.as_bytes()), (MARKER_HEADER, b"v1")];
            let response = CallResponse { headers: Head::new(&headers), body: &body };
            world.hub.on_call_response(call, Some(&response), world.now());
            if let Some(version) = reports {
                world.reported.store(version, Ordering::Release);
            }
            self.execute();
        }
        std::thread::yield_now();
    }

    fn execute(&mut self) {
        while let Some(effect) = self.world.hub.next_effect() {
            // A worker that has finished receives nothing.
            match effect {
                HubEffect::Call(call) => self.calls.push_back(call),
                HubEffect::Notify(worker, notice) => drop(self.workers[&worker].send(notice)),
                HubEffect::NotifyAll(notice) => {
                    self.workers.values().for_each(|it| drop(it.send(notice.clone())));
                }
                HubEffect::CallFinished { .. } | HubEffect::Run => {}
            }
        }
    }
}

struct Worker {
    world: Arc<World>,
    engine: Engine,
    inbox: Receiver<Notice>,
    live: BTreeSet<StreamId>,
    /// The waiting requests, with the version that was reported when they arrived.
    waiting: BTreeMap<StreamId, usize>,
    permits: usize,
}

impl Worker {
    fn request(&mut self, stream: StreamId) {
        let reported = self.world.reported.load(Ordering::Acquire);
        let authorization = format!("Bearer {KEY}");
        let fields: [Field<'_>; 4] = [
            (":method", b"GET"),
            (":path", b"/"),
            (":authority", b"8080-private.example.com"),
            ("authorization", authorization.as_bytes()),
        ];
        let properties = RequestProperties::new(&|| ClientAddress::Unknown, &|| false);
        let now = self.world.now();
        let head = Head::new(&fields);
        match self.engine.on_request_headers(stream, head, &properties, now) {
            RequestAction::Forward(_) => self.permit(stream, reported),
            RequestAction::Wait => drop(self.waiting.insert(stream, reported)),
            _ => {}
        }
        self.execute();
    }

    /// Panics if no version since `reported` permits the request.
    fn permit(&mut self, stream: StreamId, reported: usize) {
        let current = self.world.current.load(Ordering::Acquire);
        let is_valid = (reported..=current).any(|version| version % 2 == 0);
        assert!(is_valid, "permitted by a version before {reported}, and now is {current}");
        self.live.insert(stream);
        self.permits += 1;
    }

    fn read_inbox(&mut self) {
        while let Ok(notice) = self.inbox.try_recv() {
            self.engine.on_notice(notice, self.world.now());
        }
        self.engine.on_wake(self.world.now());
        self.execute();
    }

    fn execute(&mut self) {
        while let Some(effect) = self.engine.next_effect() {
            match effect {
                Effect::Start => self.world.hub.start("watcher".into()),
                Effect::Forward(stream) => {
                    let reported = self.waiting.remove(&stream).expect("a waiting request");
                    self.permit(stream, reported);
                }
                Effect::Deny(stream, _) => drop(self.waiting.remove(&stream)),
                Effect::Close { stream, .. } => self.end(stream),
                _ => {}
            }
        }
    }

    fn end(&mut self, stream: StreamId) {
        assert!(self.live.remove(&stream), "{stream} is live");
        self.engine.on_stream_end(stream);
    }

    /// Sends requests until no change follows any more, and ends when the last revocation has ended all streams. Returns
    /// the number of permits.
    fn run(mut self) -> usize {
        let mut stream = 0;
        while !self.world.is_over.load(Ordering::Acquire) {
            stream += 1;
            self.request(stream);
            self.read_inbox();
            if self.live.len() > STREAMS {
                let oldest = *self.live.first().unwrap();
                self.end(oldest);
            }
        }
        while !self.live.is_empty() || !self.waiting.is_empty() {
            self.engine.on_tick(self.world.now());
            self.execute();
            self.read_inbox();
            std::thread::yield_now();
        }
        self.permits
    }
}

#[test]
fn no_thread_uses_a_credential_after_the_feed_has_reported_its_revocation() {
    let config = br#"{"version": 1, "domains": ["example.com"], "control_plane": {"cluster": "c"},
        "sandbox_cidrs": ["10.0.0.0/8"]}"#;
    let config = IngressConfig::from_json(config).expect("a valid configuration");
    let world = Arc::new(World {
        hub: Arc::new(Hub::new(config)),
        fleet: Mutex::new(Fleet::new()),
        current: AtomicUsize::new(0),
        reported: AtomicUsize::new(0),
        is_over: AtomicBool::new(false),
        begun: Instant::now(),
    });
    let mut driver = Driver {
        world: Arc::clone(&world),
        workers: BTreeMap::new(),
        calls: VecDeque::new(),
        responses: Vec::new(),
        random: 1,
    };
    // The feed covers all lookups of the workers.
    world.hub.start("watcher".into());
    driver.step();
    let threads: Vec<_> = (0..WORKERS)
        .map(|_| {
            let id = world.hub.add_worker();
            let (sender, inbox) = channel();
            driver.workers.insert(id, sender);
            let worker = Worker {
                engine: Engine::new(Arc::clone(&world.hub), id),
                world: Arc::clone(&world),
                inbox,
                live: BTreeSet::new(),
                waiting: BTreeMap::new(),
                permits: 0,
            };
            std::thread::spawn(move || worker.run())
        })
        .collect();
    // The last change is a revocation.
    for change in 1..=(CHANGES | 1) {
        {
            let mut fleet = world.fleet.lock().unwrap();
            world.current.store(change, Ordering::Release);
            fleet.set_key(change % 2 == 0);
        }
        for _ in 0..driver.random(40) {
            driver.step();
        }
    }
    world.is_over.store(true, Ordering::Release);
    while threads.iter().any(|thread| !thread.is_finished()) {
        driver.step();
    }
    let permits: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert!(permits > 0, "no request was permitted");
}
