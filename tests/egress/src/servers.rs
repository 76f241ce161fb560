//! The rig's internet: servers on all addresses of [`site::ALL`].

pub mod dns;
mod tcp;
mod udp;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result};
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::oneshot;

use crate::netns::Namespace;
use crate::site;

/// The servers, which run on one thread in their namespace.
pub struct Internet {
    /// All received DNS queries, in order.
    questions: Arc<Mutex<Vec<dns::Question>>>,
    zone: dns::Zone,
    certificate: String,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Internet {
    /// Starts the servers, and returns when they listen.
    pub(crate) fn start(namespace: &Namespace) -> Result<Self> {
        let questions = Arc::default();
        let (identity, certificate) = tcp::identity()?;
        let sockets = namespace.enter(Sockets::bind)??;
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let zone = dns::Zone::new(Arc::clone(&questions))?;
        let served = zone.clone();
        // An accepted socket belongs to its listener's namespace, whatever the namespace of the thread is.
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                match sockets.serve(&identity, &served) {
                    Ok(()) => drop(stopped.await),
                    Err(error) => tell(&format!("the rig's servers do not start: {error:#}")),
                }
            });
        });
        Ok(Self { questions, zone, certificate, stop: Some(stop), thread: Some(thread) })
    }

    /// All DNS queries that the internet has received so far.
    #[must_use]
    pub fn questions(&self) -> Vec<dns::Question> {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the address of a name (with its last dot) in the address's family.
    pub fn set_address(&self, name: &str, ttl: u32, address: IpAddr) -> Result<()> {
        self.zone.set_address(name, ttl, address)
    }

    /// The self-signed certificate of the TLS servers (PEM).
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    pub(crate) fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Listening sockets: TCP on the unspecified address, and UDP on each address, so that responses come from it.
struct Sockets {
    streams: Vec<(u16, std::net::TcpListener)>,
    datagrams: Vec<(u16, std::net::UdpSocket)>,
}

impl Sockets {
    fn bind() -> Result<Self> {
        let mut streams = Vec::new();
        for port in [53, site::BANNER_PORT, site::ECHO_PORT, site::HTTP_PORT, site::HTTPS_PORT] {
            for any in [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)] {
                streams.push((port, listener(SocketAddr::new(any, port))?));
            }
        }
        let mut datagrams = Vec::new();
        for address in site::ALL {
            for port in [53, site::QUIC_PORT, site::UDP_PORT] {
                let socket = std::net::UdpSocket::bind((address, port))
                    .with_context(|| format!("udp {address} port {port}"))?;
                socket.set_nonblocking(true)?;
                datagrams.push((port, socket));
            }
        }
        Ok(Self { streams, datagrams })
    }

    fn serve(self, identity: &tcp::Identity, zone: &dns::Zone) -> Result<()> {
        for (port, listener) in self.streams {
            let listener = TcpListener::from_std(listener)?;
            tcp::serve(port, listener, identity.clone(), zone.clone());
        }
        for (port, socket) in self.datagrams {
            let socket = UdpSocket::from_std(socket)?;
            udp::serve(port, socket, zone.clone());
        }
        Ok(())
    }
}

fn listener(address: SocketAddr) -> Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into()).with_context(|| format!("tcp {address}"))?;
    socket.listen(4096)?;
    Ok(socket.into())
}

/// Prints an error of a server. The tests that need the server fail.
fn tell(text: &str) {
    use std::io::Write as _;
    drop(writeln!(std::io::stderr(), "{text}"));
}
