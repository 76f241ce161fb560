//! Parses a packet without its link layer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::MARKER;

/// A packet's addresses and content.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Packet {
    /// The source address; unspecified if it can't be parsed.
    pub source: IpAddr,
    /// The destination address; unspecified if it can't be parsed.
    pub destination: IpAddr,
    pub content: Content,
}

/// The content of a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Content {
    /// A TCP segment.
    Tcp {
        /// The destination port.
        port: u16,
        /// SYN without ACK.
        syn: bool,
    },
    /// A UDP datagram.
    Udp {
        /// The destination port.
        port: u16,
    },
    /// Another protocol, by its number, or a fragment that is not the first.
    Other(u8),
    /// A packet without a complete header of IP, TCP or UDP.
    Unreadable,
}

impl Packet {
    /// Whether the destination is this address or can't be parsed.
    #[must_use]
    pub fn may_go_to(&self, address: IpAddr) -> bool {
        self.destination == address
            || (self.content == Content::Unreadable && self.destination.is_unspecified())
    }
}

/// The kind of a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Parsed {
    /// Traffic, also if it can't be parsed.
    Packet(Packet),
    /// ARP, IPv6 neighbour discovery, or a multicast listener report. Not traffic.
    Neighbours,
    /// A marker of a capture, by its number.
    Marker(u64),
}

pub(super) fn parse(bytes: &[u8]) -> Parsed {
    /// ARP over Ethernet for IPv4 (RFC 826): hardware 1, protocol 0x0800, lengths 6 and 4.
    const ARP: [u8; 6] = [0, 1, 8, 0, 6, 4];
    if bytes.starts_with(&ARP) {
        return Parsed::Neighbours;
    }
    let nowhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let Some(ip) = ip(bytes) else {
        let content = Content::Unreadable;
        return Parsed::Packet(Packet { source: nowhere, destination: nowhere, content });
    };
    if finds_neighbours(&ip) {
        return Parsed::Neighbours;
    }
    let content = content(&ip).unwrap_or(Content::Unreadable);
    match marker(&ip).filter(|_| matches!(content, Content::Udp { .. })) {
        Some(number) => Parsed::Marker(number),
        None => Parsed::Packet(Packet { source: ip.source, destination: ip.destination, content }),
    }
}

struct Ip<'a> {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    later_fragment: bool,
    payload: &'a [u8],
}

fn ip(bytes: &[u8]) -> Option<Ip<'_>> {
    match bytes.first()? >> 4 {
        4 => {
            let length = usize::from(bytes.first()? & 0x0f) * 4;
            let (source, destination): ([u8; 4], [u8; 4]) = (at(bytes, 12)?, at(bytes, 16)?);
            Some(Ip {
                source: Ipv4Addr::from(source).into(),
                destination: Ipv4Addr::from(destination).into(),
                protocol: *bytes.get(9)?,
                later_fragment: u16::from_be_bytes(at(bytes, 6)?) & 0x1fff != 0,
                payload: bytes.get(length..)?,
            })
        }
        6 => {
            let (source, destination): ([u8; 16], [u8; 16]) = (at(bytes, 8)?, at(bytes, 24)?);
            Some(Ip {
                source: Ipv6Addr::from(source).into(),
                destination: Ipv6Addr::from(destination).into(),
                protocol: *bytes.get(6)?,
                later_fragment: false,
                payload: bytes.get(40..)?,
            })
        }
        _ => None,
    }
}

fn content(ip: &Ip<'_>) -> Option<Content> {
    let port = || at(ip.payload, 2).map(u16::from_be_bytes);
    Some(match ip.protocol {
        6 if !ip.later_fragment => {
            Content::Tcp { port: port()?, syn: ip.payload.get(13)? & 0x12 == 0x02 }
        }
        17 if !ip.later_fragment => Content::Udp { port: port()? },
        other => Content::Other(other),
    })
}

/// Neighbour discovery (RFC 4861), and multicast listeners' reports (RFC 3810), which come after a hop-by-hop header
/// of eight bytes.
fn finds_neighbours(ip: &Ip<'_>) -> bool {
    match (ip.protocol, ip.payload) {
        (58, [kind, ..]) => matches!(kind, 133..=137 | 143),
        (0, [58, 0, _, _, _, _, _, _, kind, ..]) => matches!(kind, 130..=132 | 143),
        _ => false,
    }
}

fn marker(ip: &Ip<'_>) -> Option<u64> {
    let number = ip.payload.get(8..)?.strip_prefix(MARKER)?;
    Some(u64::from_be_bytes(at(number, 0)?))
}

fn at<const N: usize>(bytes: &[u8], from: usize) -> Option<[u8; N]> {
    bytes.get(from..from.checked_add(N)?)?.try_into().ok()
}
