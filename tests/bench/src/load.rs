//! The load: requests over connections that stay open, as fast as they are answered or at a fixed rate.

mod http1;
mod http2;
mod schedule;
mod websocket;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// The protocol of the clients.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Protocol {
    Http1,
    Tls,
    Http2,
    Grpc,
    /// An upgrade, ten messages there and back, and a close.
    WebSocket,
}

/// What the clients send.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) address: SocketAddr,
    pub(crate) protocol: Protocol,
    /// The authority. `{}` becomes the number of the request, from `first` to `first + hosts - 1` and again.
    pub(crate) host: String,
    pub(crate) first: u64,
    pub(crate) hosts: u64,
    /// The value may contain `{address}`, which is the address of that number.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) connections: usize,
}

/// When a load ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until {
    Elapsed(Duration),
    Requests(u64),
}

/// What the clients observed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// The time of each correct answer, in microseconds.
    pub(crate) micros: Vec<u32>,
    /// The number of other answers, by description.
    pub(crate) wrong: BTreeMap<String, u64>,
    pub(crate) elapsed: Duration,
    /// When the first correct answer was complete, since the begin.
    pub(crate) first: Option<Duration>,
}

impl Outcome {
    pub(crate) fn count(&self) -> u64 {
        u64::try_from(self.micros.len()).unwrap_or_default()
    }

    /// The time that a part of the answers did not exceed.
    pub(crate) fn quantile(&self, part: f64) -> f64 {
        crate::statistics::quantile(
            &self.micros.iter().map(|it| f64::from(*it)).collect::<Vec<_>>(),
            part,
        )
    }

    /// Fails unless every answer was correct.
    pub(crate) fn require_correct(&self, what: &str) -> Result<()> {
        ensure!(self.wrong.is_empty(), "{what} gave wrong answers: {:?}", self.wrong);
        ensure!(!self.micros.is_empty(), "{what} gave no answer");
        Ok(())
    }
}

/// One client, with its connection.
enum Client {
    Http1(http1::Client),
    Http2(http2::Client),
    WebSocket,
}

impl Client {
    async fn connect(load: &Load) -> Result<Self> {
        Ok(match load.protocol {
            Protocol::Http1 | Protocol::Tls => Self::Http1(http1::Client::connect(load).await?),
            Protocol::Http2 | Protocol::Grpc => Self::Http2(http2::Client::connect(load).await?),
            Protocol::WebSocket => Self::WebSocket,
        })
    }

    async fn send(&mut self, load: &Load, number: u64) -> Result<()> {
        match self {
            Self::Http1(client) => client.send(load, number).await,
            Self::Http2(client) => client.send(load, number).await,
            Self::WebSocket => websocket::converse(load, number).await,
        }
    }
}

/// Each client sends its next request when it has the answer to the last one.
pub(crate) async fn closed(load: &Load, until: Until) -> Result<Outcome> {
    let (sender, receiver) = unbounded_channel();
    drop(sender);
    run(load, until, None, receiver).await
}

/// The first requests of a fixed rate, which are not counted: they open the connections, on both sides of the proxy.
const WARM_UP: Duration = Duration::from_millis(300);

/// Requests are sent at a fixed rate, and the time of each counts from the moment at which it was due.
pub(crate) async fn at_rate(load: &Load, rate: f64, time: Duration) -> Result<Outcome> {
    let (sender, receiver) = unbounded_channel();
    let counted_from = Instant::now() + WARM_UP;
    let schedule = tokio::spawn(schedule::send(sender, rate, counted_from + time));
    let outcome = run(load, Until::Elapsed(WARM_UP + time), Some(counted_from), receiver).await?;
    schedule.await??;
    Ok(outcome)
}

/// Runs the clients. A client waits for the next moment of the schedule if requests count from a moment on.
async fn run(
    load: &Load,
    until: Until,
    counted_from: Option<Instant>,
    schedule: UnboundedReceiver<Instant>,
) -> Result<Outcome> {
    let schedule = Arc::new(Mutex::new(schedule));
    let next = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let begun = Instant::now();
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..load.connections {
        let (load, schedule, next) = (load.clone(), Arc::clone(&schedule), Arc::clone(&next));
        clients.spawn(async move {
            let mut outcome = Outcome::default();
            let mut client = Client::connect(&load).await?;
            loop {
                let due = if counted_from.is_some() {
                    let Some(due) = schedule.lock().await.recv().await else { break };
                    due
                } else {
                    Instant::now()
                };
                let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let is_over = match until {
                    Until::Elapsed(time) => counted_from.is_none() && begun.elapsed() >= time,
                    Until::Requests(count) => number >= count,
                };
                if is_over {
                    break;
                }
                let number = load.first + number % load.hosts.max(1);
                match client.send(&load, number).await {
                    Ok(()) if counted_from.is_some_and(|from| due < from) => {}
                    Ok(()) => {
                        outcome.first.get_or_insert_with(|| begun.elapsed());
                        let micros = u32::try_from(due.elapsed().as_micros());
                        outcome.micros.push(micros.unwrap_or(u32::MAX));
                    }
                    Err(error) => {
                        *outcome.wrong.entry(format!("{error:#}")).or_default() += 1;
                        client = Client::connect(&load).await?;
                    }
                }
            }
            anyhow::Ok(outcome)
        });
    }
    let mut sum = Outcome::default();
    while let Some(outcome) = clients.join_next().await {
        let outcome = outcome??;
        sum.micros.extend(outcome.micros);
        sum.first = [sum.first, outcome.first].into_iter().flatten().min();
        for (what, count) in outcome.wrong {
            *sum.wrong.entry(what).or_default() += count;
        }
    }
    sum.elapsed = begun.elapsed();
    Ok(sum)
}

impl Load {
    fn authority(&self, number: u64) -> String {
        self.host.replace("{}", &number.to_string())
    }

    /// The headers of a request, with the address of its sandbox in them where a value names it.
    fn headers(&self, number: u64) -> impl Iterator<Item = (&str, String)> {
        let address = crate::world::sandbox_address(number).to_string();
        self.headers
            .iter()
            .map(move |(name, value)| (name.as_str(), value.replace("{address}", &address)))
    }

    async fn tcp(&self) -> Result<TcpStream> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    async fn tls(&self) -> Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let mut trusted = rustls::RootCertStore::empty();
        let authority = sandgate_stack::pki::trusted()?;
        trusted.add(CertificateDer::from_pem_slice(authority.as_bytes())?)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(trusted)
            .with_no_client_auth();
        let name = ServerName::try_from("any.sandbox.localhost").context("a server name")?;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        Ok(connector.connect(name, self.tcp().await?).await?)
    }
}
