//! The server: one task for each stream, around a [`Session`](crate::session::Session).

mod admission;
mod connection;
mod large;
mod listener;
mod service;
mod stream;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};

pub use self::listener::{Port, PortError};
pub use self::service::DeltaService;
use crate::nodes::Nodes;
use crate::snapshots::Snapshots;

/// Who may open a stream.
pub trait Credentials: Send + Sync + 'static {
    /// The node that a bearer token belongs to.
    fn node_of(&self, token: &[u8]) -> Option<String>;

    /// Reports when tokens may have become invalid.
    fn changes(&self) -> watch::Receiver<()>;
}

/// The name that a client's certificate proves, for servers that ask for one. The listener puts it into the request's
/// extensions.
#[derive(Clone)]
pub struct CertifiedNames(pub Arc<dyn Fn(&str) -> bool + Send + Sync>);

/// Where the resources of the nodes come from.
pub trait Source: Send + Sync + 'static {
    /// What a node should have, now and in the future. A change wakes only the streams of the nodes that it concerns.
    fn subscribe(&self, node: &str) -> watch::Receiver<Arc<Snapshots>>;
}

/// The resources of all groups.
impl Source for watch::Receiver<Arc<Snapshots>> {
    fn subscribe(&self, _: &str) -> Self {
        self.clone()
    }
}

/// The bounds of the server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most connections at once.
    pub connections: usize,
    /// The longest time of a handshake.
    pub handshake: Duration,
    /// The time after which a connection without a stream ends. A connection whose stream has ended may end earlier.
    pub idle: Duration,
    /// The most streams at once.
    pub streams: usize,
    /// The most streams of a node at once. An edge has one, and a second one while the first ends.
    pub streams_per_node: usize,
    /// The most nodes at once that have a large response and have not answered it.
    pub large_responses: usize,
    /// The time after which a stream ends, so that nodes move to new replicas. Each stream ends up to a tenth earlier.
    pub stream_age: Duration,
    /// The longest time until a client says which node it is.
    pub first_request: Duration,
    /// The longest time that a client may leave responses unread, or a large one without an answer.
    pub unread: Duration,
    /// The longest time until connections end after a stop. Streams end at once.
    pub stop: Duration,
}

impl Limits {
    /// The bounds of a server in production.
    pub const DEFAULT: Self = Self {
        connections: 2_048,
        handshake: Duration::from_secs(3),
        idle: Duration::from_secs(10),
        streams: 4_096,
        streams_per_node: 4,
        large_responses: 64,
        stream_age: Duration::from_secs(30 * 60),
        first_request: Duration::from_secs(10),
        unread: Duration::from_secs(60),
        stop: Duration::from_secs(5),
    };

    /// The bounds of a server for so many connections.
    #[must_use]
    pub fn of_connections(connections: usize) -> Self {
        // A node may have a second stream while its first one ends.
        Self { connections, streams: connections.saturating_mul(2), ..Self::DEFAULT }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// The largest request. A client that reconnects lists everything it has: about 60 KiB for the largest set of resources.
/// Decoded, a request of empty names takes 12 times as much memory, before the server knows which node the client is.
pub const MAX_REQUEST: usize = 1 << 20;

/// What all streams share.
pub struct Shared {
    pub(crate) credentials: Arc<dyn Credentials>,
    /// Whether a client also needs a certificate for the name of its node.
    pub(crate) needs_certificate: bool,
    pub(crate) source: Box<dyn Source>,
    pub(crate) stopping: watch::Receiver<bool>,
    pub(crate) nodes: Nodes,
    pub(crate) limits: Limits,
    pub(crate) slots: Arc<Semaphore>,
    pub(crate) large_slots: large::Slots,
}

impl Shared {
    /// `source` has the desired resources, and `stopping` becomes true when the server stops.
    #[must_use]
    pub fn new(
        credentials: Arc<dyn Credentials>,
        needs_certificate: bool,
        source: impl Source,
        stopping: watch::Receiver<bool>,
        limits: Limits,
    ) -> Self {
        let slots = Arc::new(Semaphore::new(limits.streams));
        let large_slots = large::Slots::new(limits.large_responses);
        let nodes = Nodes::default();
        let source = Box::new(source);
        Self { credentials, needs_certificate, source, stopping, nodes, limits, slots, large_slots }
    }

    /// The nodes and their state.
    #[must_use]
    pub fn nodes(&self) -> &Nodes {
        &self.nodes
    }
}
