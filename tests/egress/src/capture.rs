//! What arrives in a namespace: every IP packet, seen before any firewall of its own.

use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use socket2::{Domain, Protocol, Socket, Type};

use crate::netns::Namespace;

/// One packet's addresses, and what it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Packet {
    /// Where it says that it comes from.
    pub source: IpAddr,
    /// Where it goes.
    pub destination: IpAddr,
    /// What it carries.
    pub content: Content,
}

/// What a packet carries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Content {
    /// TCP to a port; whether it opens a connection.
    Tcp {
        /// The destination port.
        port: u16,
        /// SYN without ACK.
        syn: bool,
    },
    /// UDP to a port.
    Udp {
        /// The destination port.
        port: u16,
    },
    /// Any other protocol, by its number; also a fragment that is not the first.
    Other(u8),
}

/// A running capture; it ends when dropped.
pub struct Capture {
    seen: Arc<Mutex<Vec<Packet>>>,
    // Its other end is held by the thread, which ends when this one is gone.
    _running: Arc<()>,
}

impl Capture {
    pub(crate) fn start(namespace: &Namespace) -> Result<Self> {
        /// `ETH_P_ALL` of linux/if_ether.h, in network byte order.
        const EVERYTHING: i32 = 0x0003_u16.to_be() as i32;
        let mut socket = namespace.enter(|| {
            Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(EVERYTHING)))
        })??;
        socket.set_recv_buffer_size(16 << 20)?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let running = Arc::new(());
        let watched = Arc::downgrade(&running);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&seen);
        std::thread::spawn(move || {
            let mut buffer = [0; 256];
            while watched.strong_count() > 0 {
                let Ok(length) = socket.read(&mut buffer) else { continue };
                if let Some(packet) = buffer.get(..length).and_then(parse) {
                    sink.lock().unwrap_or_else(PoisonError::into_inner).push(packet);
                }
            }
        });
        Ok(Self { seen, _running: running })
    }

    /// Everything so far, except what is needed to find neighbours. Waits a little for what is on its way.
    #[must_use]
    pub fn packets(&self) -> Vec<Packet> {
        std::thread::sleep(Duration::from_millis(100));
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Packets to an address.
    #[must_use]
    pub fn to(&self, address: IpAddr) -> Vec<Packet> {
        self.packets().into_iter().filter(|packet| packet.destination == address).collect()
    }
}

/// The packet without its link layer. None where there is nothing to be said about it.
fn parse(bytes: &[u8]) -> Option<Packet> {
    let (source, destination, protocol, fragment, payload) = match bytes.first()? >> 4 {
        4 => {
            let length = usize::from(bytes.first()? & 0x0f) * 4;
            let offset = u16::from_be_bytes(at(bytes, 6)?) & 0x1fff;
            let addresses: ([u8; 4], [u8; 4]) = (at(bytes, 12)?, at(bytes, 16)?);
            let source = IpAddr::V4(Ipv4Addr::from(addresses.0));
            let destination = IpAddr::V4(Ipv4Addr::from(addresses.1));
            (source, destination, *bytes.get(9)?, offset != 0, bytes.get(length..)?)
        }
        6 => {
            let addresses: ([u8; 16], [u8; 16]) = (at(bytes, 8)?, at(bytes, 24)?);
            let source = IpAddr::V6(Ipv6Addr::from(addresses.0));
            let destination = IpAddr::V6(Ipv6Addr::from(addresses.1));
            (source, destination, *bytes.get(6)?, false, bytes.get(40..)?)
        }
        _ => return None,
    };
    let port = || at(payload, 2).map(u16::from_be_bytes);
    let content = match protocol {
        6 if !fragment => Content::Tcp { port: port()?, syn: payload.get(13)? & 0x12 == 0x02 },
        17 if !fragment => Content::Udp { port: port()? },
        // Neighbour discovery is how IPv6 finds the next hop, not traffic.
        58 if matches!(payload.first(), Some(133..=137 | 143)) => return None,
        0 if matches!(destination, IpAddr::V6(address) if address.is_multicast()) => return None,
        other => Content::Other(other),
    };
    Some(Packet { source, destination, content })
}

fn at<const N: usize>(bytes: &[u8], from: usize) -> Option<[u8; N]> {
    bytes.get(from..from.checked_add(N)?)?.try_into().ok()
}
