//! A model of a client: what it wants, what it has, and what it refuses.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use sandgate_xds::wire::Any;
use sandgate_xds::wire::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Status};
use sandgate_xds::{Kind, Resource, Session, Snapshot, Version};

/// The content of resources that clients refuse.
pub(crate) const BAD: &str = "bad";

/// A snapshot from its resources: kind, name, content.
pub(crate) fn snapshot(resources: &[(Kind, &str, &str)]) -> Arc<Snapshot> {
    let mut snapshot = Snapshot::default();
    for (kind, name, content) in resources {
        snapshot.insert(*kind, name, resource(*kind, name, content));
    }
    Arc::new(snapshot)
}

/// A cluster names its endpoints, which have its name.
fn resource(kind: Kind, name: &str, content: &str) -> Resource {
    let references = match kind {
        Kind::Cluster => vec![(Kind::Endpoints, name.to_owned())],
        _ => Vec::new(),
    };
    let body = Any { type_url: kind.type_url(), value: content.as_bytes().to_vec().into() };
    Resource { version: Version(content.into()), body, references }
}

#[derive(Default)]
pub(crate) struct Names {
    pub(crate) all: bool,
    pub(crate) names: BTreeSet<String>,
}

/// A client and its stream.
pub(crate) struct Client {
    pub(crate) session: Session,
    pub(crate) now: Duration,
    /// What it has, by kind and name.
    pub(crate) has: BTreeMap<Kind, BTreeMap<String, String>>,
    pub(crate) wants: BTreeMap<Kind, Names>,
    /// Responses that it has not read.
    pub(crate) queue: VecDeque<DeltaDiscoveryResponse>,
    /// All that was received, as `+kind name content` and `-kind name`.
    pub(crate) log: Vec<String>,
}

impl Client {
    pub(crate) fn connect(snapshot: Arc<Snapshot>) -> Self {
        Self {
            session: Session::new(snapshot),
            now: Duration::ZERO,
            has: BTreeMap::new(),
            wants: BTreeMap::new(),
            queue: VecDeque::new(),
            log: Vec::new(),
        }
    }

    /// Loses the stream, and opens another one on which it says what it has.
    pub(crate) fn reconnect(&mut self, snapshot: Arc<Snapshot>) {
        self.session = Session::new(snapshot);
        self.now = Duration::ZERO;
        self.queue.clear();
        self.log.clear();
        let wants = std::mem::take(&mut self.wants);
        for (kind, wants) in wants {
            let mut request = request(kind);
            request.initial_resource_versions = self.has.get(&kind).cloned().unwrap_or_default();
            if wants.all && !wants.names.is_empty() {
                request.resource_names_subscribe.push("*".to_owned());
            }
            request.resource_names_subscribe.extend(wants.names.iter().cloned());
            let has_request = wants.all || !wants.names.is_empty();
            self.wants.insert(kind, wants);
            if has_request {
                self.send(request);
            }
        }
    }

    pub(crate) fn subscribe_to_all(&mut self, kind: Kind) {
        self.wants.entry(kind).or_default().all = true;
        self.send(request(kind));
    }

    pub(crate) fn subscribe(&mut self, kind: Kind, name: &str) {
        self.wants.entry(kind).or_default().names.insert(name.to_owned());
        let mut request = request(kind);
        request.resource_names_subscribe.push(name.to_owned());
        self.send(request);
    }

    pub(crate) fn unsubscribe(&mut self, kind: Kind, name: &str) {
        let wants = self.wants.entry(kind).or_default();
        wants.names.remove(name);
        if !wants.all {
            self.has.entry(kind).or_default().remove(name);
        }
        let mut request = request(kind);
        request.resource_names_unsubscribe.push(name.to_owned());
        self.send(request);
    }

    pub(crate) fn publish(&mut self, snapshot: Arc<Snapshot>) {
        self.queue.extend(self.session.on_snapshot(snapshot, self.now));
    }

    /// Lets time pass.
    pub(crate) fn wait(&mut self, time: Duration) {
        self.now += time;
        self.queue.extend(self.session.on_time(self.now));
    }

    pub(crate) fn send(&mut self, request: DeltaDiscoveryRequest) {
        let reaction = self.session.on_request(request, self.now).unwrap();
        self.queue.extend(reaction.responses);
    }

    /// Reads one response and answers it. Returns whether there was one.
    pub(crate) fn read(&mut self) -> bool {
        let Some(response) = self.queue.pop_front() else { return false };
        let kind = Kind::from_type_url(&response.type_url).unwrap();
        let mut seen = BTreeSet::new();
        let has = self.has.entry(kind).or_default();
        let wants = self.wants.entry(kind).or_default();
        let mut bad = Vec::new();
        for resource in response.resources {
            assert!(seen.insert(resource.name.clone()), "`{}` occurs twice", resource.name);
            let content = String::from_utf8(resource.resource.unwrap().value.to_vec()).unwrap();
            self.log.push(format!("+{kind} {} {content}", resource.name));
            if content.starts_with(BAD) {
                bad.push(resource.name);
            } else if wants.all || wants.names.contains(&resource.name) {
                assert!(!resource.version.is_empty());
                has.insert(resource.name, resource.version);
            }
        }
        for name in response.removed_resources {
            assert!(seen.insert(name.clone()), "`{name}` occurs twice");
            self.log.push(format!("-{kind} {name}"));
            let had_it = has.remove(&name).is_some();
            let is_kept = matches!(kind, Kind::Extension | Kind::Secret);
            assert!(!had_it || !is_kept, "the {kind} `{name}` may be in use");
        }
        let mut answer = request(kind);
        answer.response_nonce = response.nonce;
        if !bad.is_empty() {
            answer.error_detail = Some(Status { code: 3, message: format!("bad: {bad:?}") });
        }
        self.send(answer);
        true
    }

    /// Reads everything, and returns what was received. Fails if the server does not come to rest.
    pub(crate) fn settle(&mut self) -> Vec<String> {
        for _ in 0..1_000 {
            if !self.read() {
                return std::mem::take(&mut self.log);
            }
        }
        panic!("the server sends for ever");
    }

    pub(crate) fn content(&self, kind: Kind, name: &str) -> Option<&str> {
        self.has.get(&kind)?.get(name).map(String::as_str)
    }
}

pub(crate) fn request(kind: Kind) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest { type_url: kind.type_url(), ..DeltaDiscoveryRequest::default() }
}
