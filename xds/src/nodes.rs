//! What the server knows of its nodes: for the log, the metrics, and `sandgate xds nodes`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::kind::Kind;
use crate::session::KindStatus;
use crate::wire::DeltaDiscoveryResponse;

/// How long a node is listed after its last stream.
const RETENTION: Duration = Duration::from_secs(60 * 60);
/// The pause between two searches for nodes that are no longer listed. A search reads all nodes under the lock, and after a restart
/// all of them connect at once.
const PAUSE: Duration = Duration::from_secs(60);

/// All nodes.
#[derive(Clone, Default)]
pub struct Nodes(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    nodes: BTreeMap<String, Entry>,
    /// The number of open streams of each node that has one.
    open_streams: BTreeMap<String, usize>,
    last_search: Option<Instant>,
    last_stream: u64,
    refused_connections: u64,
    denied: u64,
    responses: BTreeMap<Kind, u64>,
    rejections: BTreeMap<Kind, u64>,
}

struct Entry {
    /// The newest stream, whose state counts; a client that reconnects has two for a moment.
    stream: u64,
    is_connected: bool,
    since: SystemTime,
    agent: String,
    kinds: BTreeMap<Kind, KindStatus>,
    pending: usize,
}

impl State {
    /// Removes the nodes that are no longer listed, unless it did so a moment ago.
    fn forget_old(&mut self, now: SystemTime) {
        if self.last_search.is_some_and(|last| last.elapsed() < PAUSE) {
            return;
        }
        self.last_search = Some(Instant::now());
        self.nodes.retain(|_, entry| {
            entry.is_connected || now.duration_since(entry.since).unwrap_or_default() < RETENTION
        });
    }
}

/// A node, as it is listed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct NodeReport {
    pub node: String,
    pub connected: bool,
    /// When the stream began or ended, in seconds since 1970.
    pub since: u64,
    pub agent: String,
    /// The number of resources that the node does not have as they should be.
    pub pending: usize,
    /// The accepted versions, by kind and name.
    pub versions: BTreeMap<String, BTreeMap<String, String>>,
    /// The reasons of rejected resources, by kind and name.
    pub rejected: BTreeMap<String, BTreeMap<String, String>>,
}

impl Nodes {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn count_denied(&self) {
        self.state().denied += 1;
    }

    pub(crate) fn count_refused_connection(&self) {
        self.state().refused_connections += 1;
    }

    /// Counts a stream of a node, unless the node has `most` already.
    pub(crate) fn open_stream(&self, node: &str, most: usize) -> Option<OpenStream> {
        let mut state = self.state();
        let count = state.open_streams.get(node).copied().unwrap_or_default();
        if count >= most {
            return None;
        }
        state.open_streams.insert(node.to_owned(), count + 1);
        Some(OpenStream { nodes: self.clone(), node: node.to_owned() })
    }

    pub(crate) fn connect(&self, node: &str, agent: &str) -> StreamGuard {
        let mut state = self.state();
        state.last_stream += 1;
        let stream = state.last_stream;
        let now = SystemTime::now();
        state.forget_old(now);
        let entry = Entry {
            stream,
            is_connected: true,
            since: now,
            agent: agent.to_owned(),
            kinds: BTreeMap::new(),
            pending: 0,
        };
        state.nodes.insert(node.to_owned(), entry);
        StreamGuard { nodes: self.clone(), node: node.to_owned(), stream }
    }

    /// All nodes, in the order of their names.
    #[must_use]
    pub fn list(&self) -> Vec<NodeReport> {
        self.state().nodes.iter().map(|(node, entry)| report(node, entry)).collect()
    }

    /// The metrics, in the text format of Prometheus. A rejection is counted for each response.
    #[must_use]
    pub fn metrics(&self) -> String {
        let state = self.state();
        let connected = state.nodes.values().filter(|entry| entry.is_connected);
        let (mut nodes, mut rejecting, mut pending) = (0, 0, 0);
        for entry in connected {
            nodes += 1;
            rejecting += u64::from(entry.kinds.values().any(|kind| !kind.rejected.is_empty()));
            pending += u64::from(entry.pending > 0);
        }
        let mut text = String::new();
        let mut single = |kind: &str, name: &str, help: &str, value: u64| {
            // Writing to a string can't fail.
            let _: std::fmt::Result =
                write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
        };
        single("gauge", "sandgate_xds_nodes", "Connected nodes.", nodes);
        single(
            "gauge",
            "sandgate_xds_nodes_rejecting",
            "Connected nodes that reject a resource.",
            rejecting,
        );
        single(
            "gauge",
            "sandgate_xds_nodes_pending",
            "Connected nodes that lack a resource.",
            pending,
        );
        single("counter", "sandgate_xds_streams_total", "Streams that began.", state.last_stream);
        single(
            "counter",
            "sandgate_xds_denied_total",
            "Streams without a valid credential.",
            state.denied,
        );
        single(
            "counter",
            "sandgate_xds_refused_connections_total",
            "Connections above a bound, which were closed.",
            state.refused_connections,
        );
        for (name, help, values) in [
            ("sandgate_xds_responses_total", "Responses that were sent.", &state.responses),
            ("sandgate_xds_rejections_total", "Responses that nodes rejected.", &state.rejections),
        ] {
            let _: std::fmt::Result = write!(text, "# HELP {name} {help}\n# TYPE {name} counter\n");
            for kind in Kind::ALL {
                let value = values.get(&kind).copied().unwrap_or_default();
                let _: std::fmt::Result = writeln!(text, "{name}{{kind=\"{kind}\"}} {value}");
            }
        }
        text
    }
}

fn report(node: &str, entry: &Entry) -> NodeReport {
    let of_kind = |kind: &Kind| kind.to_string();
    let versions = entry.kinds.iter().map(|(kind, status)| {
        let versions = status.accepted.iter();
        (
            of_kind(kind),
            versions.map(|(name, version)| (name.clone(), version.0.to_string())).collect(),
        )
    });
    let rejected = entry.kinds.iter().filter(|(_, status)| !status.rejected.is_empty());
    let rejected = rejected.map(|(kind, status)| {
        let rejected = status.rejected.iter();
        (of_kind(kind), rejected.map(|(name, it)| (name.clone(), it.reason.to_string())).collect())
    });
    NodeReport {
        node: node.to_owned(),
        connected: entry.is_connected,
        since: entry.since.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        agent: entry.agent.clone(),
        pending: entry.pending,
        versions: versions.collect(),
        rejected: rejected.collect(),
    }
}

/// An open stream in the count of its node.
pub(crate) struct OpenStream {
    nodes: Nodes,
    node: String,
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let mut state = self.nodes.state();
        let left = state.open_streams.get(&self.node).copied().unwrap_or_default();
        if left > 1 {
            state.open_streams.insert(self.node.clone(), left - 1);
        } else {
            state.open_streams.remove(&self.node);
        }
    }
}

/// The entry of a stream. Dropping it marks the node as disconnected.
pub(crate) struct StreamGuard {
    nodes: Nodes,
    node: String,
    stream: u64,
}

impl StreamGuard {
    pub(crate) fn update(&self, kinds: BTreeMap<Kind, KindStatus>, pending: usize) {
        self.with_entry(|entry| {
            entry.kinds = kinds;
            entry.pending = pending;
        });
    }

    pub(crate) fn count_response(&self, response: &DeltaDiscoveryResponse) {
        if let Some(kind) = Kind::from_type_url(&response.type_url) {
            *self.nodes.state().responses.entry(kind).or_default() += 1;
        }
    }

    pub(crate) fn count_rejection(&self, kind: Kind) {
        *self.nodes.state().rejections.entry(kind).or_default() += 1;
    }

    fn with_entry(&self, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.nodes.state().nodes.get_mut(&self.node)
            && entry.stream == self.stream
        {
            change(entry);
        }
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.with_entry(|entry| {
            entry.is_connected = false;
            entry.since = SystemTime::now();
        });
    }
}
