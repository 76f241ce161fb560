//! An entry of `allow_out` or `deny_out`: a range of addresses or a domain, and its ports.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::embedded;
use super::name::{DomainPattern, InvalidName, Name};
use super::ports::{PortRange, parse_port};

/// The maximum length of an entry, in bytes: `*.`, a name of 253 characters, a trailing dot, and
/// `:65534-65535`.
const ENTRY_MAX: usize = 268;

/// A set of destinations that an owner allows or denies.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Entry {
    /// The addresses or names.
    pub target: Target,
    /// The ports of TCP and UDP. Without them, the entry applies to all ports, and to traffic
    /// without ports.
    pub ports: Option<PortRange>,
}

/// The addresses or names of an entry.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Target {
    /// A range of addresses. A single address is a range with the full prefix length.
    Address(IpNet),
    /// A name, or all names below it.
    Domain(DomainPattern),
}

/// The reason why a text is not an [`Entry`]. The message continues a sentence that starts with the
/// entry.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidEntry {
    /// The text is an IPv6 address, and also an IPv6 address with a port.
    #[error(
        "can be read as an IPv6 address or as an address with a port; write `{0}/128` for the address, or `[{1}]:{2}` for the port"
    )]
    Ambiguous(Ipv6Addr, Ipv6Addr, u16),
    /// The text has square brackets that do not enclose the IPv6 address of an entry with a port.
    #[error(
        "has square brackets in a wrong place; they enclose only an IPv6 address before a port: `[2001:db8::1]:443` or `[2001:db8::]/32:443`"
    )]
    Brackets,
    /// The text has an IPv6 address in square brackets, and no port.
    #[error("has square brackets; write the IPv6 address without them")]
    BracketsWithoutPort,
    /// The text has several colons, but is not an IPv6 address.
    #[error(
        "has several `:` but is not an IPv6 address or range; with a port, write the address in square brackets: `[2001:db8::1]:443` or `[2001:db8::]/32:443`"
    )]
    Colons,
    /// The text is a domain, but the list only takes addresses.
    #[error("is not an IP address or range")]
    Domain,
    /// The range has bits set after its prefix. The owner may mean the range or the address.
    #[error("has bits set after its prefix; write `{0}` for the range or `{1}` for the address")]
    HostBits(IpNet, IpAddr),
    /// The text is neither an address nor a valid name.
    #[error(
        "{0}; expected an IP address, a range like `10.0.0.0/8`, or a domain like `example.com` or `*.example.com`"
    )]
    Name(InvalidName),
    /// The entry has a port, but the list applies to all ports.
    #[error("has a port, but this list applies to all ports; remove the `:port`")]
    NoPorts,
    /// No valid port follows the `:`.
    #[error(
        "has no valid port after its `:`; expected a number from 1 to 65535, or a range like `8000-8100`, without leading zeros"
    )]
    Ports,
    /// No valid prefix length follows the `/`.
    #[error(
        "has no valid prefix length after its `/`; expected a number up to 32 (IPv4) or 128 (IPv6), without leading zeros"
    )]
    Prefix,
    /// The text before the `/` is not an address.
    #[error("has a `/` after text that is not an IP address")]
    Slash,
    /// The text is longer than 268 bytes.
    #[error("is longer than 268 characters")]
    TooLong,
    /// The text is a URL.
    #[error("is a URL; write only its host")]
    Url,
    /// A `*` is not the whole first label, or no domain follows it.
    #[error(
        "has a misplaced `*`; a `*` must be the whole first label, before a domain: `*.example.com`"
    )]
    Wildcard,
    /// The text contains white space.
    #[error("contains white space; remove it")]
    Whitespace,
    /// The address has an IPv6 zone.
    #[error("has a zone (`%…`), which has a meaning on one machine only; remove it")]
    Zone,
}

impl Entry {
    /// Parses an entry.
    ///
    /// An IPv4-mapped IPv6 range (`::ffff:10.0.0.0/104`) becomes the IPv4 range, because both are
    /// notations for the same packets (RFC 4291, section 2.5.5.2).
    ///
    /// # Errors
    /// [`InvalidEntry`], which says what is wrong and what to write instead.
    pub fn parse(text: &str) -> Result<Self, InvalidEntry> {
        if text.len() > ENTRY_MAX {
            return Err(InvalidEntry::TooLong);
        }
        if text.contains(char::is_whitespace) {
            return Err(InvalidEntry::Whitespace);
        }
        if text.contains("://") {
            return Err(InvalidEntry::Url);
        }
        if text.contains('%') {
            return Err(InvalidEntry::Zone);
        }
        if text.contains(['[', ']']) {
            return parse_bracketed(text);
        }
        if text.matches(':').count() > 1 {
            return parse_v6(text);
        }
        let (target, ports) = match text.split_once(':') {
            Some((target, ports)) => (target, Some(parse_ports(ports)?)),
            None => (text, None),
        };
        Ok(Self { target: Target::parse(target)?, ports })
    }

    /// Parses an entry that an earlier version accepted. Such an entry has no port, so an IPv6
    /// address without square brackets is not ambiguous.
    pub(super) fn parse_accepted(text: &str) -> Result<Self, InvalidEntry> {
        match text.parse::<IpAddr>() {
            Ok(address) => Ok(Self { target: Target::of(address), ports: None }),
            Err(_) => Self::parse(text),
        }
    }
}

impl Target {
    /// Parses an IPv4 address or range, or a domain.
    fn parse(text: &str) -> Result<Self, InvalidEntry> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::of(address));
        }
        if let Some((address, prefix)) = text.split_once('/') {
            return parse_range(address, prefix).map(Self::Address);
        }
        let pattern = match text.strip_prefix("*.") {
            Some("" | ".") => return Err(InvalidEntry::Wildcard),
            Some(parent) if !parent.contains('*') => Name::parse(parent).map(DomainPattern::Below),
            None if !text.contains('*') => Name::parse(text).map(DomainPattern::Exact),
            _ => return Err(InvalidEntry::Wildcard),
        };
        pattern.map(Self::Domain).map_err(InvalidEntry::Name)
    }

    fn of(address: IpAddr) -> Self {
        Self::Address(embedded::unmapped(address.into()))
    }
}

/// Parses an IPv6 address or range without a port.
fn parse_v6(text: &str) -> Result<Entry, InvalidEntry> {
    let target = match (text.parse::<Ipv6Addr>(), text.split_once('/')) {
        (Ok(address), _) => match address_and_port(text) {
            Some((shorter, port)) => {
                return Err(InvalidEntry::Ambiguous(address, shorter, port));
            }
            None => Target::of(address.into()),
        },
        (Err(_), Some((address, prefix))) if !prefix.contains(':') => {
            Target::Address(parse_range(address, prefix)?)
        }
        _ => return Err(InvalidEntry::Colons),
    };
    Ok(Entry { target, ports: None })
}

/// The IPv6 address and the port, if the text can be read as `address:port`.
fn address_and_port(text: &str) -> Option<(Ipv6Addr, u16)> {
    let (address, port) = text.rsplit_once(':')?;
    Some((address.parse().ok()?, parse_port(port).ok()?))
}

/// Parses `[address]:ports` or `[address]/prefix:ports`.
fn parse_bracketed(text: &str) -> Result<Entry, InvalidEntry> {
    let parts = text.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let (address, rest) = parts.ok_or(InvalidEntry::Brackets)?;
    let parsed: Ipv6Addr = address.parse().map_err(|_| InvalidEntry::Brackets)?;
    let (prefix, ports) = match rest.split_once(':') {
        Some(parts) => parts,
        None if rest.is_empty() || rest.starts_with('/') => {
            return Err(InvalidEntry::BracketsWithoutPort);
        }
        None => return Err(InvalidEntry::Brackets),
    };
    let target = match prefix.strip_prefix('/') {
        Some(prefix) => Target::Address(parse_range(address, prefix)?),
        None if prefix.is_empty() => Target::of(parsed.into()),
        None => return Err(InvalidEntry::Brackets),
    };
    Ok(Entry { target, ports: Some(parse_ports(ports)?) })
}

fn parse_ports(text: &str) -> Result<PortRange, InvalidEntry> {
    PortRange::parse(text).map_err(|_| InvalidEntry::Ports)
}

/// Parses the range `address/prefix`. No bit after the prefix may be set.
///
/// # Errors
/// The same as [`Entry::parse`].
pub(super) fn parse_range(address: &str, prefix: &str) -> Result<IpNet, InvalidEntry> {
    let address: IpAddr = address.parse().map_err(|_| InvalidEntry::Slash)?;
    let canonical = !prefix.is_empty()
        && prefix.bytes().all(|b| b.is_ascii_digit())
        && (prefix == "0" || !prefix.starts_with('0'));
    let length = prefix.parse().ok().filter(|_| canonical).ok_or(InvalidEntry::Prefix)?;
    let range = IpNet::new(address, length).map_err(|_| InvalidEntry::Prefix)?;
    if range.trunc() != range {
        return Err(InvalidEntry::HostBits(range.trunc(), address));
    }
    Ok(embedded::unmapped(range))
}

impl FromStr for Entry {
    type Err = InvalidEntry;

    fn from_str(text: &str) -> Result<Self, InvalidEntry> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Entry {
    type Error = InvalidEntry;

    fn try_from(text: String) -> Result<Self, InvalidEntry> {
        Self::parse(&text)
    }
}

impl From<Entry> for String {
    fn from(entry: Entry) -> Self {
        entry.to_string()
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.target, self.ports) {
            (Target::Address(IpNet::V6(range)), ports) => {
                let (address, length) = (range.addr(), range.prefix_len());
                let is_single = length == range.max_prefix_len();
                match ports {
                    Some(_) if is_single => write!(f, "[{address}]")?,
                    Some(_) => write!(f, "[{address}]/{length}")?,
                    // Without the prefix length, the text would be refused as ambiguous.
                    None if is_single && address_and_port(&address.to_string()).is_none() => {
                        address.fmt(f)?;
                    }
                    None => range.fmt(f)?,
                }
            }
            (Target::Address(range), _) if range.prefix_len() == range.max_prefix_len() => {
                range.addr().fmt(f)?;
            }
            (Target::Address(range), _) => range.fmt(f)?,
            (Target::Domain(pattern), _) => pattern.fmt(f)?,
        }
        self.ports.map_or(Ok(()), |ports| write!(f, ":{ports}"))
    }
}
