//! An entry of `allow_out` or `deny_out`: a range of addresses, or a domain.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::embedded;
use super::name::{DomainPattern, InvalidName, Name};

/// The maximum length of an entry, in bytes: `*.`, a name of 253 characters, and a trailing dot.
const ENTRY_MAX: usize = 256;

/// A destination, or a set of destinations, that an owner allows or denies.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Entry {
    /// A range of addresses. A single address is a range with the full prefix length.
    Address(IpNet),
    /// A name, or all names below it.
    Domain(DomainPattern),
}

/// The reason why a text is not an [`Entry`]. The message continues a sentence that starts with the
/// entry.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidEntry {
    /// The text has square brackets.
    #[error("has square brackets; write the IPv6 address without them")]
    Brackets,
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
    /// The text has a `:port`.
    #[error("has a port; a policy applies to hosts: remove the `:port`")]
    Port,
    /// No valid prefix length follows the `/`.
    #[error(
        "has no valid prefix length after its `/`; expected a number up to 32 (IPv4) or 128 (IPv6), without leading zeros"
    )]
    Prefix,
    /// The text before the `/` is not an address.
    #[error("has a `/` after text that is not an IP address")]
    Slash,
    /// The text is longer than 256 bytes.
    #[error("is longer than 256 characters")]
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
        match self {
            Self::Address(range) if range.prefix_len() == range.max_prefix_len() => {
                range.addr().fmt(f)
            }
            Self::Address(range) => range.fmt(f),
            Self::Domain(pattern) => pattern.fmt(f),
        }
    }
}
