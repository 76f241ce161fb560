//! Parses the first bytes of a refused packet, for the log.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use sandgate_policy::denials;

use crate::netlink::message::array_at;

/// The addresses, the protocol, and the ports if the protocol has any.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Packet {
    /// The source address of the header, which the sender may have forged.
    pub(crate) source: IpAddr,
    /// The destination address.
    pub(crate) destination: IpAddr,
    /// The protocol of the payload.
    pub(crate) protocol: Protocol,
    /// The source port and the destination port.
    pub(crate) ports: Option<(u16, u16)>,
}

/// An IP protocol (IANA's numbers).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Protocol(u8);

const ICMP: Protocol = Protocol(1);
const TCP: Protocol = Protocol(6);
const UDP: Protocol = Protocol(17);
const ICMPV6: Protocol = Protocol(58);

/// IPv6 extension headers: hop-by-hop, routing, fragment, destination options.
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const OPTIONS: u8 = 60;
/// The maximum number of extension headers that are parsed.
const EXTENSIONS: usize = 8;

impl Protocol {
    /// The protocol in a report of denials.
    pub(crate) fn kind(self) -> denials::Protocol {
        match self {
            TCP => denials::Protocol::Tcp,
            UDP => denials::Protocol::Udp,
            ICMP | ICMPV6 => denials::Protocol::Icmp,
            Self(_) => denials::Protocol::Other,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            ICMP => f.write_str("icmp"),
            TCP => f.write_str("tcp"),
            UDP => f.write_str("udp"),
            ICMPV6 => f.write_str("icmpv6"),
            Self(other) => write!(f, "ip protocol {other}"),
        }
    }
}

impl Packet {
    /// Parses the start of an IP packet. Returns `None` if it does not contain both addresses.
    #[must_use]
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        match bytes.first()? >> 4 {
            4 => Self::v4(bytes),
            6 => Self::v6(bytes),
            _ => None,
        }
    }

    fn v4(bytes: &[u8]) -> Option<Self> {
        let source: [u8; 4] = array_at(bytes, 12)?;
        let destination: [u8; 4] = array_at(bytes, 16)?;
        let header = usize::from(bytes.first()? & 0x0f) * 4;
        let is_first = u16::from_be_bytes(array_at(bytes, 6)?) & 0x1fff == 0;
        let protocol = Protocol(*bytes.get(9)?);
        Some(Self {
            source: Ipv4Addr::from(source).into(),
            destination: Ipv4Addr::from(destination).into(),
            protocol,
            ports: ports(protocol, bytes.get(header..).filter(|_| is_first)),
        })
    }

    fn v6(bytes: &[u8]) -> Option<Self> {
        let source: [u8; 16] = array_at(bytes, 8)?;
        let destination: [u8; 16] = array_at(bytes, 24)?;
        let (mut protocol, mut payload) = (*bytes.get(6)?, bytes.get(40..));
        for _ in 0..EXTENSIONS {
            let Some(header) = payload else { break };
            let length = match protocol {
                // The length is in units of 8 bytes, without the first unit (RFC 8200, section 4).
                HOP_BY_HOP | ROUTING | OPTIONS => {
                    header.get(1).map(|length| (usize::from(*length) + 1) * 8)
                }
                FRAGMENT
                    if array_at(header, 2).is_some_and(|o| u16::from_be_bytes(o) >> 3 == 0) =>
                {
                    Some(8)
                }
                _ => break,
            };
            let Some((next, length)) = header.first().copied().zip(length) else { break };
            (protocol, payload) = (next, header.get(length..));
        }
        let protocol = Protocol(protocol);
        Some(Self {
            source: Ipv6Addr::from(source).into(),
            destination: Ipv6Addr::from(destination).into(),
            protocol,
            ports: ports(protocol, payload),
        })
    }

    /// The source address, with the port if it is known.
    #[must_use]
    pub(crate) fn client(&self) -> String {
        shown(self.source, self.ports.map(|(source, _)| source))
    }

    /// The destination address, with the port if it is known.
    #[must_use]
    pub(crate) fn target(&self) -> String {
        shown(self.destination, self.ports.map(|(_, destination)| destination))
    }
}

fn ports(protocol: Protocol, payload: Option<&[u8]>) -> Option<(u16, u16)> {
    let payload = payload.filter(|_| matches!(protocol, TCP | UDP))?;
    Some((u16::from_be_bytes(array_at(payload, 0)?), u16::from_be_bytes(array_at(payload, 2)?)))
}

fn shown(address: IpAddr, port: Option<u16>) -> String {
    match port {
        Some(port) => SocketAddr::new(address, port).to_string(),
        None => address.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v4(protocol: u8, fragment: u16, options: usize, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x45 + u8::try_from(options / 4).unwrap(), 0, 0, 0, 0, 0];
        bytes.extend(fragment.to_be_bytes());
        bytes.extend([64, protocol, 0, 0, 192, 0, 2, 2, 203, 0, 113, 20]);
        bytes.extend(vec![0; options]);
        bytes.extend(payload);
        bytes
    }

    fn v6(next: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x60, 0, 0, 0, 0, 0, next, 64];
        bytes.extend("2001:db8:a::2".parse::<Ipv6Addr>().unwrap().octets());
        bytes.extend("2001:db8:113::20".parse::<Ipv6Addr>().unwrap().octets());
        bytes.extend(payload);
        bytes
    }

    fn shown(bytes: &[u8]) -> String {
        let packet = Packet::parse(bytes).unwrap();
        format!("{} {} {}", packet.protocol, packet.client(), packet.target())
    }

    #[test]
    fn ports_are_found_after_options_and_extension_headers() {
        let ports = [0x12, 0x34, 0x1b, 0x58];
        assert_eq!(shown(&v4(17, 0, 0, &ports)), "udp 192.0.2.2:4660 203.0.113.20:7000");
        assert_eq!(shown(&v4(6, 0x4000, 12, &ports)), "tcp 192.0.2.2:4660 203.0.113.20:7000");
        assert_eq!(shown(&v6(17, &ports)), "udp [2001:db8:a::2]:4660 [2001:db8:113::20]:7000");
        let options = [&[FRAGMENT, 0, 0, 0, 0, 0, 0, 0], &[17, 0, 0, 0, 0, 0, 0, 0], &ports[..]];
        let far = shown(&v6(OPTIONS, &options.concat()));
        assert_eq!(far, "udp [2001:db8:a::2]:4660 [2001:db8:113::20]:7000");
    }

    #[test]
    fn a_packet_without_readable_ports_has_addresses() {
        assert_eq!(shown(&v4(1, 0, 0, &[8, 0, 0, 0])), "icmp 192.0.2.2 203.0.113.20");
        assert_eq!(shown(&v4(17, 1, 0, &[0; 8])), "udp 192.0.2.2 203.0.113.20");
        assert_eq!(shown(&v4(17, 0, 40, &[])), "udp 192.0.2.2 203.0.113.20");
        assert_eq!(shown(&v4(132, 0, 0, &[0; 8])), "ip protocol 132 192.0.2.2 203.0.113.20");
        let later = [17, 0, 0, 8, 0, 0, 0, 0, 1, 1, 1, 1];
        assert_eq!(shown(&v6(FRAGMENT, &later)), "ip protocol 44 2001:db8:a::2 2001:db8:113::20");
        assert_eq!(Packet::parse(&v4(17, 0, 0, &[])[..19]), None);
        assert_eq!(Packet::parse(&[0x75; 60]), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
            let _ = Packet::parse(&bytes);
        }
    }
}
