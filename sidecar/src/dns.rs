//! The DNS proxy: answers everything that a sandbox sends to port 53, and what its Envoy asks.
//!
//! The way of a question, each step a module:
//!
//! 1. [`socket`], [`udp`], [`tcp`]: it comes in, on a transparent socket with the address that it was
//!    sent to.
//! 2. [`query`]: parsed into one question of class IN, or refused as the RFCs say.
//! 3. [`plan`]: judged by name, with the [`generation`] of the moment. Most refusals end here.
//! 4. [`upstream`]: resolvers are asked, until one answers or time is up.
//! 5. [`answer`], with [`aliases`] and [`svcb`]: what came back is judged, again by the generation of the
//!    moment, and made into what the client may see.
//! 6. [`reply`]: it is made to fit, and sent from where the question was sent to.
//!
//! [`resolve`] is these steps as one function. Whatever happens, there is an answer: silence and ICMP
//! cost clients seconds, and an overload or a resolver's failure is SERVFAIL. What a client can take
//! is bounded ([`Limits`]).
//!
//! Beside that, it looks names up for the agent ([`lookup`]), and tells it what it has [`seen`] of names
//! that are denied.

mod aliases;
mod answer;
mod counters;
mod denials;
mod edns;
mod generation;
mod lookup;
mod plan;
mod query;
mod reply;
mod resolve;
mod seen;
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
pub use seen::Pair;

use denials::Denials;
use resolve::Resolve;
use seen::Seen;
use upstream::Upstream;

/// Free ports that are tried, where any will do.
const PORTS_TRIED: usize = 32;

/// Who asks at a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The sandbox: real answers, filtered; virtual addresses for allowed names without internet.
    Sandbox,
    /// The sandbox's Envoy, for names that it dials: only names that are allowed as names, and of
    /// their addresses only those that may be dialled. Never let the sandbox reach it.
    Inner,
}

/// An address to listen on, by UDP and TCP.
#[derive(Clone, Copy, Debug)]
pub struct Listen {
    /// The address. An ordinary listener needs a concrete one, since answers come from it.
    pub address: SocketAddr,
    /// Who asks here.
    pub role: Role,
    /// nftables' `tproxy` sends here what was sent elsewhere. Needs `CAP_NET_ADMIN`.
    pub transparent: bool,
}

/// What a sandbox can take, and how long it waits. The defaults fit a sandbox of a few CPUs.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Questions that may be at resolvers at the same time; beyond it, SERVFAIL. Each takes a file
    /// descriptor and about 10 kB.
    pub questions: usize,
    /// Further attempts for such questions that may be open at the same time, over all of them.
    pub attempts: usize,
    /// TCP connections of each listener; beyond it, SERVFAIL for as many again, then they are closed.
    pub connections: usize,
    /// How long a TCP connection may be idle.
    pub idle: Duration,
    /// The whole time for one question; then SERVFAIL. Less than the 5 s of C libraries.
    pub answer_within: Duration,
    /// How long a resolver may keep silent before the next is asked as well.
    pub patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            questions: 384,
            attempts: 192,
            connections: 64,
            idle: Duration::from_secs(10),
            answer_within: Duration::from_millis(4_000),
            patience: Duration::from_millis(700),
        }
    }
}

/// Why a proxy can't be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Without a resolver nothing would ever resolve.
    #[error("no resolver is configured; name at least one address")]
    NoResolver,
    /// Answers would come from an address that the client did not ask.
    #[error("can't answer from {0}; a listener that is not transparent needs a concrete address")]
    Unspecified(SocketAddr),
    /// The system refuses.
    #[error("can't listen on {address} for DNS by {transport}")]
    Socket {
        /// Where.
        address: SocketAddr,
        /// `UDP` or `TCP`.
        transport: &'static str,
        /// Why.
        #[source]
        reason: io::Error,
    },
}

/// The proxy, for those who tell it what holds. Clones are the same proxy.
#[derive(Clone, Debug)]
pub struct Proxy {
    resolve: Arc<Resolve>,
}

/// Its bound sockets. They receive from the moment on in which they are bound, and are answered
/// while [`Server::run`] runs.
#[derive(Debug)]
pub struct Server {
    resolve: Arc<Resolve>,
    udp: Vec<(udp::Listener, SocketAddr)>,
    tcp: Vec<tcp::Listener>,
}

impl Proxy {
    /// Binds every listener. Until [`Proxy::set`], everything is answered by SERVFAIL.
    ///
    /// `resolvers` are asked in this order. Port 0 picks a free one, the same for UDP and TCP.
    ///
    /// # Errors
    /// [`BindError`], with the listener that can't be had.
    pub fn bind(
        listen: &[Listen],
        resolvers: Vec<SocketAddr>,
        limits: Limits,
    ) -> Result<(Self, Server), BindError> {
        if resolvers.is_empty() {
            return Err(BindError::NoResolver);
        }
        let upstream = Upstream {
            answer_within: limits.answer_within,
            patience: limits.patience,
            spare: Semaphore::new(limits.attempts),
        };
        let resolve = Arc::new(Resolve {
            generation: ArcSwapOption::empty(),
            resolvers,
            upstream,
            in_flight: Arc::new(Semaphore::new(limits.questions)),
            counters: Counters::default(),
            denials: Denials::default(),
            seen: Seen::default(),
        });
        let mut server = Server { resolve: Arc::clone(&resolve), udp: vec![], tcp: vec![] };
        for one in listen {
            server.bind(*one, limits)?;
        }
        Ok((Self { resolve }, server))
    }

    /// Makes a generation the one that holds, for every question from now on and for the answers of
    /// those that are under way.
    pub fn set(&self, generation: Generation) {
        self.resolve.generation.store(Some(Arc::new(generation)));
    }

    /// The number of the generation that holds.
    pub fn generation(&self) -> Option<u64> {
        self.resolve.generation.load().as_ref().map(|generation| generation.number())
    }

    /// Waits until addresses of denied names came by, in answers of the agent's resolvers, and takes
    /// them.
    pub async fn seen(&self) -> BTreeSet<Pair> {
        self.resolve.seen.next().await
    }

    /// What was done so far.
    pub fn counters(&self) -> &Counters {
        &self.resolve.counters
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
                // A port that is free for UDP need not be for TCP.
                Err(_) if address.port() == 0 && attempts < PORTS_TRIED => {}
                Err(reason) => return Err(failed("TCP")(reason)),
            }
        };
        self.udp.push((udp::Listener { socket: Arc::new(udp), role, transparent }, address));
        let listener = tcp::Listener {
            socket,
            role,
            transparent,
            connections: Arc::new(Semaphore::new(limits.connections)),
            turned_away: Arc::new(Semaphore::new(limits.connections)),
            idle: limits.idle,
        };
        self.tcp.push(listener);
        Ok(())
    }

    /// Where it listens, in the order of the listeners that were asked for.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.udp.iter().map(|(_, address)| *address).collect()
    }

    /// Answers until `end` is cancelled, then closes everything.
    pub async fn run(self, end: CancellationToken) {
        let mut listeners = JoinSet::new();
        for (listener, _) in self.udp {
            listeners.spawn(listener.serve(Arc::clone(&self.resolve)));
        }
        for listener in self.tcp {
            listeners.spawn(listener.serve(Arc::clone(&self.resolve)));
        }
        end.cancelled().await;
        listeners.shutdown().await;
    }
}
