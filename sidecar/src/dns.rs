//! The DNS proxy. It answers all queries that the sandbox sends to port 53, and the queries of the sandbox's Envoy.
//!
//! The path of a query:
//!
//! 1. [`socket`], [`udp`], [`tcp`] receive it, for the sandbox on a transparent socket with the original destination
//!    address.
//! 2. [`query`] parses it to one question of class IN, or rejects it as the RFCs require.
//! 3. [`plan`] evaluates its name with the current [`generation`] of the policy. Most denials end here.
//! 4. [`upstream`] queries the resolvers until one responds or the time limit is reached.
//! 5. [`response_filter`], with [`aliases`] and [`svcb`], evaluates the response with the generation that is then current,
//!    and removes what the client may not see.
//! 6. [`reply`] makes the response fit, and the socket sends it from the original destination address.
//!
//! [`resolve`] combines these steps. Every query gets a response, because clients wait for seconds if they get none or an
//! ICMP error. An overload or a failed resolver is SERVFAIL. [`Limits`] bounds the resources that clients can use.
//!
//! The proxy also resolves names for the agent ([`lookup`]), and reports the addresses of denied names that it has
//! [`observed`].

mod aliases;
mod counters;
mod denial_log;
mod edns;
mod generation;
mod lookup;
mod observed;
mod plan;
mod query;
mod reply;
mod resolve;
mod response_filter;
mod socket;
mod svcb;
mod tcp;
mod udp;
mod upstream;

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use counters::{Count, Counters};
pub use generation::Generation;
pub use lookup::{Addresses, Family};
pub use observed::Pair;

use crate::denials::DenialReport;
use denial_log::DenialLog;
use observed::Observed;
use resolve::QueryHandler;
use upstream::Upstream;

/// The number of attempts to find a port that is free for both UDP and TCP.
const MAX_PORTS_TRIED: usize = 32;

/// The clients of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The sandbox: gets filtered responses, and virtual addresses of allowed names if internet access is off.
    Sandbox,
    /// The sandbox's Envoy: gets only allowed names, and only the addresses that Envoy may connect to. The sandbox must
    /// not be able to reach this listener.
    Envoy,
}

/// The configuration of a listener for UDP and TCP.
#[derive(Clone, Copy, Debug)]
pub struct Listen {
    /// The address. It must be specific unless the listener is transparent, because responses come from it.
    pub address: SocketAddr,
    /// The clients.
    pub role: Role,
    /// Whether the listener receives queries to other addresses through the `tproxy` statement of nftables. Requires
    /// `CAP_NET_ADMIN`.
    pub transparent: bool,
}

/// The limits of a sandbox's queries. The defaults fit a sandbox with a few CPUs.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The maximum number of queries in flight to resolvers; additional ones get SERVFAIL. Each needs a file descriptor
    /// and about 10 kB.
    pub questions: usize,
    /// The maximum number of additional attempts in flight, for all queries together.
    pub attempts: usize,
    /// The maximum number of TCP connections of a listener. As many again get SERVFAIL; additional ones are closed.
    pub connections: usize,
    /// The idle timeout of a TCP connection.
    pub idle: Duration,
    /// The time limit of a query, after which the client gets SERVFAIL. Less than the 5 s after which C libraries give
    /// up.
    pub query_timeout: Duration,
    /// How long the proxy waits for a resolver before it also queries the next one.
    pub attempt_delay: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            questions: 384,
            attempts: 192,
            connections: 64,
            idle: Duration::from_secs(10),
            query_timeout: Duration::from_millis(4_000),
            attempt_delay: Duration::from_millis(700),
        }
    }
}

/// The proxy can't be started.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// There is no resolver.
    #[error("no resolver is configured; name at least one address")]
    NoResolver,
    /// The source address of responses would differ from the address that the client queried.
    #[error("can't respond from {0}; a listener that is not transparent needs a specific address")]
    Unspecified(SocketAddr),
    /// The kernel refuses the socket.
    #[error("can't listen on {address} for DNS by {transport}")]
    Socket {
        /// The address of the listener.
        address: SocketAddr,
        /// `UDP` or `TCP`.
        transport: &'static str,
        /// The kernel's error.
        #[source]
        reason: io::Error,
    },
}

/// The handle of the proxy. Clones share their state.
#[derive(Clone, Debug)]
pub struct Proxy {
    handler: Arc<QueryHandler>,
}

/// The bound sockets. They queue queries until [`Server::run`] runs.
#[derive(Debug)]
pub struct Server {
    handler: Arc<QueryHandler>,
    udp: Vec<(udp::Listener, SocketAddr)>,
    tcp: Vec<tcp::Listener>,
}

impl Proxy {
    /// Binds all listeners. Until the first call of [`Proxy::set`], every query gets SERVFAIL.
    ///
    /// `resolvers` are in the order of preference. Port 0 selects a free port, the same for UDP and TCP.
    ///
    /// # Errors
    ///
    /// If a listener can't be bound, or there is no resolver.
    pub fn bind(
        listen: &[Listen],
        resolvers: Vec<SocketAddr>,
        limits: Limits,
    ) -> Result<(Self, Server), BindError> {
        if resolvers.is_empty() {
            return Err(BindError::NoResolver);
        }
        let upstream = Upstream {
            query_timeout: limits.query_timeout,
            attempt_delay: limits.attempt_delay,
            additional: Semaphore::new(limits.attempts),
        };
        let handler = Arc::new(QueryHandler {
            generation: ArcSwapOption::empty(),
            resolvers,
            upstream,
            in_flight: Arc::new(Semaphore::new(limits.questions)),
            counters: Counters::default(),
            denials: DenialLog::default(),
            observed: Observed::default(),
        });
        let mut server = Server { handler: Arc::clone(&handler), udp: vec![], tcp: vec![] };
        for one in listen {
            server.bind(*one, limits)?;
        }
        Ok((Self { handler }, server))
    }

    /// Applies a generation to all new queries, and to the responses to queries in flight.
    pub fn set(&self, generation: Generation) {
        self.handler.generation.store(Some(Arc::new(generation)));
    }

    /// Adds denied names to a report from now on. The report of the first call stays.
    pub fn report_to(&self, report: DenialReport) {
        drop(self.handler.denials.report.set(report));
    }

    /// The number of the current generation.
    pub fn generation(&self) -> Option<u64> {
        self.handler.generation.load().as_ref().map(|generation| generation.number())
    }

    /// Waits until the proxy has observed addresses of denied names in responses of the agent's resolvers, and takes
    /// them.
    pub async fn observed(&self) -> BTreeSet<Pair> {
        self.handler.observed.next().await
    }

    /// The counters since the start.
    pub fn counters(&self) -> &Counters {
        &self.handler.counters
    }
}

impl Server {
    fn bind(&mut self, listen: Listen, limits: Limits) -> Result<(), BindError> {
        let Listen { address, role, transparent } = listen;
        if address.ip().is_unspecified() && !transparent {
            return Err(BindError::Unspecified(address));
        }
        let failed = |transport| move |reason| BindError::Socket { address, transport, reason };
        let mut attempts = 0;
        let (udp, socket, address) = loop {
            attempts += 1;
            let udp = socket::udp(address, transparent).map_err(failed("UDP"))?;
            let bound = udp.local_addr().map_err(failed("UDP"))?;
            match socket::tcp(bound, transparent) {
                Ok(tcp) => break (udp, tcp, bound),
                // A port that is free for UDP may be in use for TCP.
                Err(_) if address.port() == 0 && attempts < MAX_PORTS_TRIED => {}
                Err(reason) => return Err(failed("TCP")(reason)),
            }
        };
        self.udp.push((udp::Listener { socket: Arc::new(udp), role, transparent }, address));
        let listener = tcp::Listener {
            socket,
            role,
            transparent,
            connections: Arc::new(Semaphore::new(limits.connections)),
            overflow: Arc::new(Semaphore::new(limits.connections)),
            idle: limits.idle,
        };
        self.tcp.push(listener);
        Ok(())
    }

    /// The addresses of the listeners, in their order.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.udp.iter().map(|(_, address)| *address).collect()
    }

    /// Serves queries until `end` is cancelled, then closes all sockets.
    pub async fn run(self, end: CancellationToken) {
        let mut listeners = JoinSet::new();
        for (listener, _) in self.udp {
            listeners.spawn(listener.serve(Arc::clone(&self.handler)));
        }
        for listener in self.tcp {
            listeners.spawn(listener.serve(Arc::clone(&self.handler)));
        }
        end.cancelled().await;
        listeners.shutdown().await;
    }
}
