//! One entry of `allow_out` or `deny_out`: a range of addresses, or a domain.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::embedded;
use super::name::{DomainPattern, InvalidName, Name};

/// Longest text that can be an entry: `*.` and a name of 253 characters and its trailing dot.
const ENTRY_MAX: usize = 256;

/// What an owner allows or denies.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Entry {
    /// An address, as the range of one, or a range.
    Address(IpNet),
    /// A name, or all names below one.
    Domain(DomainPattern),
}

/// Why a text is not an [`Entry`]: a phrase that follows the entry.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidEntry {
    /// An IPv6 address in square brackets.
    #[error("has square brackets; write the IPv6 address without them")]
    Brackets,
    /// A domain, where only addresses can stand.
    #[error("is not an IP address or range")]
    Domain,
    /// Bits behind the prefix are set, so that one address and a range may both be meant.
    #[error("has bits set behind its prefix; write `{0}` for the range or `{1}` for the address")]
    HostBits(IpNet, IpAddr),
    /// Neither an address nor a name.
    #[error(
        "{0}; expected an IP address, a range like `10.0.0.0/8`, or a domain like `example.com` or `*.example.com`"
    )]
    Name(InvalidName),
    /// A `:port` behind it.
    #[error("names a port; a policy is about hosts: leave the `:port` out")]
    Port,
    /// A `/` that no prefix length follows.
    #[error(
        "has no prefix length behind its `/`; expected a number up to 32 (IPv4) or 128 (IPv6), without leading zeros"
    )]
    Prefix,
    /// A `/` behind what is no address.
    #[error("has a `/` behind what is not an IP address")]
    Slash,
    /// Over 256 bytes.
    #[error("is longer than 256 characters")]
    TooLong,
    /// A URL.
    #[error("is a URL; write its host alone")]
    Url,
    /// A `*` that is not the first label, or stands alone.
    #[error(
        "has a `*` where none can stand; it can only be the whole first label, before a domain: `*.example.com`"
    )]
    Wildcard,
    /// Space around it or in it.
    #[error("holds white space; remove it")]
    Whitespace,
    /// An IPv6 zone.
    #[error("has a zone (`%…`), which means something on one machine only; leave it out")]
    Zone,
}

impl Entry {
    /// Parses an entry.
    ///
    /// An IPv4-mapped IPv6 range (`::ffff:10.0.0.0/104`) is the IPv4 range: a notation for the
    /// same packets (RFC 4291, section 2.5.5.2).
    ///
    /// # Errors
    /// [`InvalidEntry`], saying what is wrong and what to write.
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
            return Err(InvalidEntry::Brackets);
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Address(embedded::unmapped(address.into())));
        }
        if let Some((address, prefix)) = text.split_once('/') {
            return parse_range(address, prefix).map(Self::Address);
        }
        if text.contains(':') {
            return Err(InvalidEntry::Port);
        }
        let pattern = match text.strip_prefix("*.") {
            Some("" | ".") => return Err(InvalidEntry::Wildcard),
            Some(parent) if !parent.contains('*') => Name::parse(parent).map(DomainPattern::Below),
            None if !text.contains('*') => Name::parse(text).map(DomainPattern::Exact),
            _ => return Err(InvalidEntry::Wildcard),
        };
        pattern.map(Self::Domain).map_err(InvalidEntry::Name)
    }
}

/// Parses a range, which must have no bits set behind its prefix.
///
/// # Errors
/// [`InvalidEntry`], as for [`Entry::parse`].
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
        match self {
            Self::Address(range) if range.prefix_len() == range.max_prefix_len() => {
                range.addr().fmt(f)
            }
            Self::Address(range) => range.fmt(f),
            Self::Domain(pattern) => pattern.fmt(f),
        }
    }
}
