//! A simulated node: a client of delta ADS over HTTP/2 without TLS.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::{Buf as _, Bytes, BytesMut};
use h2::SendStream;
use http::Request;
use prost::Message as _;
use sandgate_xds::wire::{DELTA_METHOD, DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node};
use sandgate_xds::{Kind, Snapshot};
use tokio::net::TcpSocket;
use tokio::task::AbortHandle;

use super::name;
use super::server::{SETTING, now};
use crate::serve::grpc_message;

/// The pause before a node connects again is random, up to the first value, which doubles with each failure up to the second
/// one. These are Envoy's defaults.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
const WINDOW: u32 = 1 << 20;

/// The resources that each node wants, by kind and name.
pub(super) struct Wanted(BTreeMap<Kind, Vec<String>>);

impl Wanted {
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let names = |kind| snapshot.of_kind(kind).map(|(name, _)| name.to_owned()).collect();
        let kinds = Kind::ALL.into_iter().map(|kind| (kind, names(kind)));
        Self(kinds.filter(|(_, names): &(Kind, Vec<String>)| !names.is_empty()).collect())
    }

    pub(super) fn len(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }
}

/// What all nodes share.
pub(super) struct Nodes {
    address: SocketAddr,
    wanted: std::sync::Arc<Wanted>,
    connected: AtomicUsize,
    current: AtomicUsize,
    bytes: AtomicU64,
    /// The times from a change to its node, in milliseconds.
    latencies: Mutex<Vec<f64>>,
}

impl Nodes {
    pub(super) fn new(address: SocketAddr, wanted: std::sync::Arc<Wanted>) -> Self {
        Self {
            address,
            wanted,
            connected: AtomicUsize::new(0),
            current: AtomicUsize::new(0),
            bytes: AtomicU64::new(0),
            latencies: Mutex::default(),
        }
    }

    /// The number of nodes that have what they want, by a stream that is open.
    pub(super) fn current(&self) -> usize {
        self.current.load(Ordering::Relaxed)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn changes(&self) -> usize {
        self.latencies.lock().map_or(0, |latencies| latencies.len())
    }

    pub(super) fn take_latencies(&self) -> Vec<f64> {
        self.latencies
            .lock()
            .map(|mut latencies| std::mem::take(&mut *latencies))
            .unwrap_or_default()
    }

    pub(super) async fn until_all_lost(&self) {
        while self.connected.load(Ordering::Relaxed) > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Is a node until the task is dropped.
pub(super) async fn run(nodes: std::sync::Arc<Nodes>, number: u32, token: String) {
    let mut node = Simulated {
        nodes,
        number,
        authorization: format!("Bearer {token}"),
        has: BTreeMap::new(),
        jitter: u64::from(number) * 2_654_435_761 + 1,
        failures: 0,
    };
    loop {
        // The server ended, or has no place.
        let _: Result<()> = node.follow().await;
        tokio::time::sleep(node.pause()).await;
    }
}

struct Simulated {
    nodes: std::sync::Arc<Nodes>,
    number: u32,
    authorization: String,
    /// The versions that it has, by kind and name.
    has: BTreeMap<Kind, BTreeMap<String, String>>,
    jitter: u64,
    failures: u32,
}

impl Simulated {
    fn pause(&mut self) -> Duration {
        // Any generator will do: xorshift.
        self.jitter ^= self.jitter << 13;
        self.jitter ^= self.jitter >> 7;
        self.jitter ^= self.jitter << 17;
        let most = BACKOFF.0.saturating_mul(1 << self.failures.min(10)).min(BACKOFF.1);
        self.failures += 1;
        most.mul_f64((self.jitter % 10_000) as f64 / 10_000.0)
    }

    /// Opens a stream, and follows it to its end.
    async fn follow(&mut self) -> Result<()> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(source(self.number), 0))?;
        let connection = socket.connect(self.nodes.address).await?;
        connection.set_nodelay(true)?;
        let (client, connection) = h2::client::Builder::new()
            .initial_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .handshake::<_, Bytes>(connection)
            .await?;
        let _driver = Driver(tokio::spawn(connection).abort_handle());
        let request = Request::post(format!("http://{}{DELTA_METHOD}", self.nodes.address))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("authorization", &self.authorization)
            .body(())?;
        let (response, mut requests) = client.ready().await?.send_request(request, false)?;
        let wanted = std::sync::Arc::clone(&self.nodes.wanted);
        for (kind, names) in &wanted.0 {
            self.subscribe(&mut requests, *kind, names)?;
        }
        let response = response.await?;
        ensure!(response.status() == 200, "{}", response.status());
        let mut body = response.into_body();
        let nodes = std::sync::Arc::clone(&self.nodes);
        let _connected = Counted::new(&nodes.connected);
        let mut current = None;
        let mut answered = Vec::new();
        let mut received = BytesMut::new();
        while let Some(chunk) = body.data().await {
            let chunk = chunk?;
            body.flow_control().release_capacity(chunk.len())?;
            nodes.bytes.fetch_add(u64::try_from(chunk.len())?, Ordering::Relaxed);
            received.extend_from_slice(&chunk);
            while let Some(message) = take_message(&mut received)? {
                let kind = self.on_response(&mut requests, &message)?;
                answered.push(kind);
                if current.is_none() && self.is_current(&wanted, &answered) {
                    self.failures = 0;
                    current = Some(Counted::new(&nodes.current));
                }
            }
        }
        Ok(())
    }

    fn subscribe(
        &self,
        requests: &mut SendStream<Bytes>,
        kind: Kind,
        names: &[String],
    ) -> Result<()> {
        send(
            requests,
            &DeltaDiscoveryRequest {
                node: Some(Node { id: name(self.number), ..Node::default() }),
                type_url: kind.type_url(),
                resource_names_subscribe: if kind.has_wildcard() {
                    Vec::new()
                } else {
                    names.to_vec()
                },
                initial_resource_versions: self.has.get(&kind).cloned().unwrap_or_default(),
                ..DeltaDiscoveryRequest::default()
            },
        )
    }

    /// Takes the resources of a response, and confirms it. Returns its kind.
    fn on_response(&mut self, requests: &mut SendStream<Bytes>, message: &[u8]) -> Result<Kind> {
        let response = DeltaDiscoveryResponse::decode(message)?;
        let kind = Kind::from_type_url(&response.type_url).context("an unknown kind")?;
        for resource in response.resources {
            if (kind, resource.name.as_str()) == SETTING
                && let Ok(changed) = resource.version.parse::<u64>()
            {
                let milliseconds = now()?.saturating_sub(changed) as f64 / 1e6;
                if let Ok(mut latencies) = self.nodes.latencies.lock() {
                    latencies.push(milliseconds);
                }
            }
            self.has.entry(kind).or_default().insert(resource.name, resource.version);
        }
        send(
            requests,
            &DeltaDiscoveryRequest {
                type_url: response.type_url,
                response_nonce: response.nonce,
                ..DeltaDiscoveryRequest::default()
            },
        )?;
        Ok(kind)
    }

    /// Whether it has what it wants, and the server has answered for what needs an answer.
    fn is_current(&self, wanted: &Wanted, answered: &[Kind]) -> bool {
        wanted.0.iter().all(|(kind, names)| {
            let has = self.has.get(kind);
            names.iter().all(|name| has.is_some_and(|has| has.contains_key(name)))
                && (!kind.has_wildcard() || answered.contains(kind))
        })
    }
}

/// The address of a node.
fn source(number: u32) -> IpAddr {
    let [_, b, c, d] = (number + 1).to_be_bytes();
    Ipv4Addr::new(127, 100 + b, c, d).into()
}

fn send(requests: &mut SendStream<Bytes>, request: &DeltaDiscoveryRequest) -> Result<()> {
    Ok(requests.send_data(grpc_message(&request.encode_to_vec()), false)?)
}

/// The next complete message.
fn take_message(received: &mut BytesMut) -> Result<Option<BytesMut>> {
    let Some(head) = received.first_chunk::<5>() else { return Ok(None) };
    let [_, length @ ..] = *head;
    let length = usize::try_from(u32::from_be_bytes(length))?;
    if received.len() < 5 + length {
        return Ok(None);
    }
    received.advance(5);
    Ok(Some(received.split_to(length)))
}

/// Counts while it exists.
struct Counted<'c>(&'c AtomicUsize);

impl<'c> Counted<'c> {
    fn new(count: &'c AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The task of a connection. It ends with this value.
struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}
