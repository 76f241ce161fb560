//! What is known of a connection: where it goes, and the names that it shows.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::name::{InvalidName, Name};

/// What the original destination of a connection stands for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Destination {
    /// An address of the network.
    Address(IpAddr),
    /// An address that the sandbox's DNS proxy made up.
    Virtual(Virtual),
}

/// What a virtual address stands for. As text: the name, or `*`.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Virtual {
    /// One name: any protocol works with it.
    Name(Name),
    /// Some name that a wildcard allows: SNI or Host must say which.
    Wildcard,
}

/// A name that a connection or request shows.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum NameFact {
    /// None: no TLS or no SNI in it, no HTTP or no Host in it.
    #[default]
    Absent,
    /// An IP address in the place of a name.
    Address(IpAddr),
    /// A name.
    Name(Name),
    /// Something is there that is no name.
    Unparsable,
}

/// All that a decision rests on.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// Where the sandbox sent it.
    pub destination: &'a Destination,
    /// Server name of the TLS handshake (RFC 6066, section 3).
    pub sni: NameFact,
    /// Host of the HTTP request (RFC 9110, section 7.2).
    pub host: NameFact,
}

impl NameFact {
    /// From the server name of a TLS handshake; empty where there is none.
    #[must_use]
    pub fn from_sni(sni: &[u8]) -> Self {
        match std::str::from_utf8(sni) {
            Ok("") => Self::Absent,
            Ok(text) => Self::from_host(text),
            Err(_) => Self::Unparsable,
        }
    }

    /// From the `:authority` of a request: a host with an optional port, which is ignored.
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

/// The host of `host[:port]`; a colon in square brackets is the host's own.
fn without_port(authority: &str) -> Option<&str> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => return Some(authority),
    };
    let is_port = port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok();
    let bracketed = host.starts_with('[') && host.ends_with(']');
    (is_port && (bracketed || !host.contains(':'))).then_some(host)
}

impl TryFrom<String> for Virtual {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        if text == "*" { Ok(Self::Wildcard) } else { Name::parse(&text).map(Self::Name) }
    }
}

impl From<Virtual> for String {
    fn from(means: Virtual) -> Self {
        means.to_string()
    }
}

impl fmt::Display for Virtual {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Wildcard => f.write_str("*"),
        }
    }
}
