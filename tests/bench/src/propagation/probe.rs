//! The clients: those that find out when an Envoy enforces a change, streams that an Envoy must close, and the load beside
//! them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::fleet::Fleet;

/// The pause between two requests that find out whether an Envoy enforces a change. All programs share the cores of one machine, so
/// a shorter one makes slower what it measures.
const PAUSE: Duration = Duration::from_millis(10);
const LIMIT: Duration = Duration::from_secs(30);

/// A connection of HTTP/1.1 that stays open.
struct Client {
    stream: TcpStream,
    request: String,
    received: Vec<u8>,
}

impl Client {
    async fn connect(edge: SocketAddr, host: &str) -> Result<Self> {
        let stream = TcpStream::connect(edge).await?;
        stream.set_nodelay(true)?;
        let request = format!("GET /health HTTP/1.1\r\nhost: {host}\r\n\r\n");
        Ok(Self { stream, request, received: Vec::new() })
    }

    /// Sends a request; returns the status. A closed connection is an error, which a request in flight meets when a change denies
    /// it.
    async fn status(&mut self) -> Result<u16> {
        self.stream.write_all(self.request.as_bytes()).await?;
        loop {
            let text = String::from_utf8_lossy(&self.received);
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| {
                    let (name, value) = line.split_once(':')?;
                    name.eq_ignore_ascii_case("content-length")
                        .then(|| value.trim().parse::<usize>().ok())?
                });
                if body.len() >= length.context("a response without a length")? {
                    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
                    let status = status.context("a response without a status")?;
                    self.received.clear();
                    return Ok(status);
                }
            }
            let read = self.stream.read_buf(&mut self.received).await?;
            ensure!(read > 0, "the edge closed the connection");
        }
    }
}

/// Waits until an Envoy serves the sandbox.
pub(super) async fn until_served(edge: &SocketAddr, fleet: &Fleet) -> Result<()> {
    let mut client = Client::connect(*edge, &fleet.subject()).await?;
    let begun = Instant::now();
    while client.status().await? != 200 {
        ensure!(begun.elapsed() < LIMIT, "the sandbox is not served");
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// A connection to each Envoy, to find out when it enforces a change.
pub(super) struct Probes(Vec<(SocketAddr, Client)>);

impl Probes {
    pub(super) async fn connect(fleet: &Fleet) -> Result<Self> {
        let mut probes = Vec::new();
        for edge in &fleet.edges {
            probes.push((*edge, Client::connect(*edge, &fleet.subject()).await?));
        }
        Ok(Self(probes))
    }

    /// For each Envoy, when it answered the first request that it denied.
    pub(super) async fn until_all_deny(self, fleet: &Fleet) -> Result<Vec<Instant>> {
        let mut denials = JoinSet::new();
        let count = self.0.len() as f64;
        for (number, (edge, client)) in self.0.into_iter().enumerate() {
            // The probes take turns.
            let turn = PAUSE.mul_f64(number as f64 / count);
            denials.spawn(until_denied(client, edge, fleet.subject(), turn));
        }
        let mut all = Vec::new();
        while let Some(at) = denials.join_next().await {
            all.push(at??);
        }
        Ok(all)
    }
}

/// Sends requests until one is denied. The edge also resets a request that is in flight when the change arrives, and with it
/// the connection. Every later request must be denied then.
async fn until_denied(
    mut client: Client,
    edge: SocketAddr,
    host: String,
    turn: Duration,
) -> Result<Instant> {
    let mut reset = None;
    tokio::time::sleep(turn).await;
    let begun = Instant::now();
    while begun.elapsed() < LIMIT {
        match (client.status().await, &reset) {
            (Ok(401 | 403 | 404), _) => return Ok(Instant::now()),
            (Ok(200), None) => tokio::time::sleep(PAUSE).await,
            (Ok(other), None) => bail!("the status {other}"),
            (Ok(other), Some(error)) => bail!("the status {other} after: {error}"),
            (Err(error), None) => {
                client = Client::connect(edge, &host).await?;
                reset = Some(error);
            }
            (Err(error), Some(_)) => return Err(error),
        }
    }
    bail!("an Envoy does not enforce the change")
}

/// An open WebSocket.
pub(super) struct Stream(TcpStream);

impl Stream {
    pub(super) async fn open(edge: &SocketAddr, fleet: &Fleet) -> Result<Self> {
        let mut stream = TcpStream::connect(edge).await?;
        let request = format!(
            "GET / HTTP/1.1\r\nhost: {}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            fleet.subject()
        );
        stream.write_all(request.as_bytes()).await?;
        let mut head = Vec::new();
        while !head.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
            ensure!(stream.read_buf(&mut head).await? > 0, "no response to an upgrade");
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        ensure!(head.starts_with("HTTP/1.1 101"), "no upgrade: {head}");
        Ok(Self(stream))
    }

    /// When the last stream was closed.
    pub(super) async fn until_all_closed(streams: Vec<Self>) -> Result<Instant> {
        let mut closing = JoinSet::new();
        for Self(mut stream) in streams {
            closing.spawn(async move {
                let mut rest = [0; 64];
                // A reset is the end, too.
                while stream.read(&mut rest).await.is_ok_and(|read| read > 0) {}
                Instant::now()
            });
        }
        let all = tokio::time::timeout(LIMIT, closing.join_all()).await;
        all.context("a stream was not closed")?.into_iter().max().context("no stream")
    }
}

/// Requests at a constant rate to a sandbox that does not change.
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    failed: Arc<AtomicU64>,
    clients: JoinSet<()>,
}

impl Load {
    pub(super) fn start(fleet: &Fleet, rate: u32) -> Self {
        let (stop, failed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut clients = JoinSet::new();
        let pause = Duration::from_secs(1).mul_f64(fleet.edges.len() as f64 / f64::from(rate));
        for (number, edge) in fleet.edges.iter().enumerate() {
            let (edge, host) = (*edge, fleet.load());
            let (stop, failed) = (Arc::clone(&stop), Arc::clone(&failed));
            let turn = pause.mul_f64(number as f64 / fleet.edges.len() as f64);
            clients.spawn(async move {
                tokio::time::sleep(turn).await;
                let mut tick = tokio::time::interval(pause);
                let mut client = Client::connect(edge, &host).await;
                while !stop.load(Ordering::Relaxed) {
                    tick.tick().await;
                    let status = match &mut client {
                        Ok(client) => client.status().await.unwrap_or_default(),
                        Err(_) => 0,
                    };
                    if status != 200 {
                        failed.fetch_add(1, Ordering::Relaxed);
                        client = Client::connect(edge, &host).await;
                    }
                }
            });
        }
        Self { stop, failed, clients }
    }

    /// Ends the load; returns the number of requests that were not served.
    pub(super) async fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.join_all().await;
        self.failed.load(Ordering::Relaxed)
    }
}
