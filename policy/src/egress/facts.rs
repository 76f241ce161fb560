//! The facts of a connection: its destination and the names that it shows.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::name::{InvalidName, Name};

/// The meaning of a connection's original destination.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Destination {
    /// A real address.
    Address(IpAddr),
    /// A virtual address, which the sandbox's DNS proxy answered for a name.
    Virtual(VirtualMeaning),
}

/// The meaning of a virtual address. Its text form is the name, or `*`.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum VirtualMeaning {
    /// One name. Any protocol works with this virtual address.
    Name(Name),
    /// Any name that a wildcard allows. SNI or Host must show the name.
    Wildcard,
}

/// The name that a connection or request shows, as SNI or Host.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum ShownName {
    /// No name: the connection has no TLS or no SNI, or no HTTP or no Host.
    #[default]
    Absent,
    /// An IP address instead of a name.
    Address(IpAddr),
    /// A name.
    Name(Name),
    /// A text that is neither a name nor an address.
    Unparsable,
}

/// All inputs of a decision about a connection or a request.
#[derive(Clone, Debug)]
pub struct ConnectionFacts<'a> {
    /// The original destination, as the sandbox chose it.
    pub destination: &'a Destination,
    /// The destination port. `None` if the traffic has no ports.
    pub port: Option<u16>,
    /// The server name of the TLS handshake (RFC 6066, section 3).
    pub sni: ShownName,
    /// The Host of the HTTP request (RFC 9110, section 7.2).
    pub host: ShownName,
}

impl ShownName {
    /// Parses the server name of a TLS handshake. An empty `sni` means that there is none.
    #[must_use]
    pub fn from_sni(sni: &[u8]) -> Self {
        match std::str::from_utf8(sni) {
            Ok("") => Self::Absent,
            Ok(text) => Self::from_host(text),
            Err(_) => Self::Unparsable,
        }
    }

    /// Parses the `:authority` of a request: a host and an optional port, which is ignored.
    #[must_use]
    pub fn from_authority(authority: &[u8]) -> Self {
        let host = std::str::from_utf8(authority).ok().and_then(without_port);
        host.map_or(Self::Unparsable, Self::from_host)
    }

    fn from_host(host: &str) -> Self {
        let literal = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        if let Some(v6) = literal {
            return v6.parse::<Ipv6Addr>().map_or(Self::Unparsable, |v6| Self::Address(v6.into()));
        }
        match host.parse::<IpAddr>() {
            Ok(address) => Self::Address(address),
            Err(_) => Name::parse(host).map_or(Self::Unparsable, Self::Name),
        }
    }
}

/// The host of `host[:port]`. A colon inside square brackets belongs to the host.
fn without_port(authority: &str) -> Option<&str> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => return Some(authority),
    };
    let is_port = port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok();
    let bracketed = host.starts_with('[') && host.ends_with(']');
    (is_port && (bracketed || !host.contains(':'))).then_some(host)
}

impl TryFrom<String> for VirtualMeaning {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        if text == "*" { Ok(Self::Wildcard) } else { Name::parse(&text).map(Self::Name) }
    }
}

impl From<VirtualMeaning> for String {
    fn from(meaning: VirtualMeaning) -> Self {
        meaning.to_string()
    }
}

impl fmt::Display for VirtualMeaning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Wildcard => f.write_str("*"),
        }
    }
}
