//! A destination of `sandgate policy check`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use anyhow::bail;
use sandgate_policy::egress::{
    ConnectionFacts, Destination, DomainPattern, Entry, InvalidEntry, Name, Policy, ShownName,
    Target, VirtualMeaning,
};

/// The UDP port of QUIC.
const QUIC_PORT: u16 = 443;

/// `HOST`, `HOST:PORT`, or one of both with `/PROTOCOL`. The host is an address, a name, or `NAME@ADDRESS`.
#[derive(Clone)]
pub(in crate::cli) struct CheckedDestination {
    text: String,
    host: Host,
    traffic: Traffic,
}

#[derive(Clone)]
enum Host {
    Address(IpAddr),
    Name(Name),
    NameAt(Name, IpAddr),
}

#[derive(Clone, Copy)]
enum Traffic {
    /// TCP. Without a port, the verdict must be the same on all ports.
    Tcp(Option<u16>),
    Udp(IpAddr, u16),
    Icmp(IpAddr),
}

/// The reason why a destination is not valid.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum InvalidDestination {
    #[error(transparent)]
    Entry(#[from] InvalidEntry),
    #[error("ICMP has no ports; remove the port")]
    IcmpPort,
    #[error("is a `*.` domain, not one name; write a name below it")]
    Names,
    #[error("`{0}` after the `@` is not an IP address")]
    NoAddress(String),
    #[error("is a range, not an IP address; write one address")]
    Range,
    #[error("has a range of ports; write one port")]
    Ports,
    #[error("UDP and ICMP show no name; write the address only")]
    ShowsNoName,
    #[error("UDP needs a port: `ADDRESS:PORT/udp`")]
    UdpPort,
}

impl FromStr for CheckedDestination {
    type Err = InvalidDestination;

    fn from_str(text: &str) -> Result<Self, InvalidDestination> {
        let (rest, protocol) = match text.rsplit_once('/') {
            Some((rest, protocol @ ("tcp" | "udp" | "icmp"))) => (rest, protocol),
            _ => (text, "tcp"),
        };
        let (name, rest) = match rest.split_once('@') {
            Some((name, rest)) => (Some(name), rest),
            None => (None, rest),
        };
        // The grammar of an entry, of which a destination is the smallest.
        let Entry { target, ports } = Entry::parse(rest)?;
        let port = match ports {
            Some(ports) => Some(ports.single().ok_or(InvalidDestination::Ports)?),
            None => None,
        };
        let host = match (name.map(Name::parse), target) {
            (_, Target::Address(range)) if range.prefix_len() < range.max_prefix_len() => {
                return Err(InvalidDestination::Range);
            }
            (_, Target::Domain(DomainPattern::Below(_))) => return Err(InvalidDestination::Names),
            (Some(name), Target::Address(address)) => {
                Host::NameAt(name.map_err(InvalidEntry::Name)?, address.addr())
            }
            (Some(_), Target::Domain(DomainPattern::Exact(name))) => {
                return Err(InvalidDestination::NoAddress(name.to_string()));
            }
            (None, Target::Address(address)) => Host::Address(address.addr()),
            (None, Target::Domain(DomainPattern::Exact(name))) => Host::Name(name),
        };
        let only_address = || match host {
            Host::Address(address) => Ok(address),
            Host::Name(_) | Host::NameAt(..) => Err(InvalidDestination::ShowsNoName),
        };
        let traffic = match (protocol, port) {
            ("udp", Some(port)) => Traffic::Udp(only_address()?, port),
            ("udp", None) => return Err(InvalidDestination::UdpPort),
            ("icmp", None) => Traffic::Icmp(only_address()?),
            ("icmp", Some(_)) => return Err(InvalidDestination::IcmpPort),
            (_, port) => Traffic::Tcp(port),
        };
        Ok(Self { text: text.to_owned(), host, traffic })
    }
}

impl CheckedDestination {
    /// The name that a sandbox looks up before it connects.
    pub(in crate::cli) fn queried_name(&self) -> Option<&Name> {
        match &self.host {
            Host::Name(name) | Host::NameAt(name, _) => Some(name),
            Host::Address(_) => None,
        }
    }

    /// Whether the destination is a name, and not a name at an address.
    pub(in crate::cli) fn has_no_address(&self) -> bool {
        matches!(self.host, Host::Name(_))
    }

    /// Whether the policy allows the destination, and the rule. A name without an address is evaluated as allowed names are: at a
    /// virtual address.
    pub(in crate::cli) fn evaluate(&self, policy: &Policy) -> anyhow::Result<(bool, String)> {
        let verdict = match self.traffic {
            Traffic::Icmp(address) => policy.evaluate_address(address, None),
            Traffic::Udp(address, port) => {
                let verdict = policy.evaluate_address(address, Some(port));
                if verdict.is_allowed() && port == QUIC_PORT && policy.has_domains() {
                    return Ok((false, "could be QUIC, and a rule names a domain".to_owned()));
                }
                verdict
            }
            Traffic::Tcp(port) => {
                let (destination, sni) = match self.host.clone() {
                    Host::Address(address) => (Destination::Address(address), ShownName::Absent),
                    Host::Name(name) => {
                        (Destination::Virtual(VirtualMeaning::Name(name)), ShownName::Absent)
                    }
                    Host::NameAt(name, address) => {
                        (Destination::Address(address), ShownName::Name(name))
                    }
                };
                let host = ShownName::Absent;
                let facts = ConnectionFacts { destination: &destination, port, sni, host };
                if port.is_none() && policy.depends_on_port(&facts) {
                    bail!(
                        "`{self}`: the verdict depends on the port; append a port, or `/icmp` to an address"
                    );
                }
                policy.decide(&facts)
            }
        };
        Ok((verdict.is_allowed(), verdict.rule().to_string()))
    }
}

impl fmt::Display for CheckedDestination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
