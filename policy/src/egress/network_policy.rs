//! The network policy of a sandbox's owner, as the API accepts and returns it.

use std::collections::BTreeSet;

use serde::{Deserialize, Deserializer, Serialize};

use super::entry::{Entry, InvalidEntry};
use super::list::{self, InvalidListEntry};

/// The maximum number of entries of one list.
pub const ENTRIES_MAX: usize = 1_000;

/// The maximum number of different ports and ranges of ports of one list. Each of them is a separate
/// set of addresses for nftables, in each chain, and the time that the kernel needs to load sets grows
/// with the square of their number.
pub const PORTS_MAX: usize = 16;

/// A network policy. An unknown key is an error, so that a typo can't disable a protection
/// unnoticed. A missing key has its default.
///
/// Contract, "Network Configuration Summary".
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(try_from = "Raw")]
pub struct NetworkPolicy {
    /// Whether globally routable destinations that no entry matches are allowed.
    #[cfg_attr(feature = "openapi", schema(default = true))]
    pub allow_internet_access: bool,
    /// Destinations that are allowed regardless of `allow_internet_access`. Evaluated before
    /// `deny_out` by default.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub allow_out: Vec<Entry>,
    /// Destinations that are denied.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub deny_out: Vec<Entry>,
}

impl Default for NetworkPolicy {
    /// Allows all globally routable destinations, and nothing else.
    fn default() -> Self {
        Self { allow_internet_access: true, allow_out: Vec::new(), deny_out: Vec::new() }
    }
}

/// The wire format, with unparsed entries.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default = "default_true")]
    allow_internet_access: bool,
    #[serde(default)]
    allow_out: Vec<String>,
    #[serde(default)]
    deny_out: Vec<String>,
}

fn default_true() -> bool {
    true
}

/// The reason why a policy is not valid.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidNetworkPolicy {
    /// An entry is not valid.
    #[error(transparent)]
    Entry(#[from] InvalidListEntry),
    /// A list has too many entries.
    #[error(
        "`{field}` has {count} entries; at most {ENTRIES_MAX} are allowed: combine addresses into ranges, or names into `*.` domains"
    )]
    TooMany {
        /// The field that holds the list.
        field: &'static str,
        /// The number of entries in the list.
        count: usize,
    },
    /// A list has too many different ports.
    #[error(
        "`{field}` has {count} different ports and ranges of ports; at most {PORTS_MAX} are allowed: combine ports into ranges (`10.0.0.1:8000-8100`), or leave ports out"
    )]
    TooManyPorts {
        /// The field that holds the list.
        field: &'static str,
        /// The number of different ports and ranges of ports in the list.
        count: usize,
    },
}

impl TryFrom<Raw> for NetworkPolicy {
    type Error = InvalidNetworkPolicy;

    fn try_from(raw: Raw) -> Result<Self, InvalidNetworkPolicy> {
        raw.parse(Entry::parse)
    }
}

impl Raw {
    fn parse(
        self,
        entry: impl Fn(&str) -> Result<Entry, InvalidEntry>,
    ) -> Result<NetworkPolicy, InvalidNetworkPolicy> {
        let list = |field, entries: &[String]| {
            if entries.len() > ENTRIES_MAX {
                return Err(InvalidNetworkPolicy::TooMany { field, count: entries.len() });
            }
            let entries = list::parse(field, entries, &entry)?;
            let ports: BTreeSet<_> = entries.iter().filter_map(|entry| entry.ports).collect();
            match ports.len() {
                count if count > PORTS_MAX => {
                    Err(InvalidNetworkPolicy::TooManyPorts { field, count })
                }
                _ => Ok(entries),
            }
        };
        Ok(NetworkPolicy {
            allow_internet_access: self.allow_internet_access,
            allow_out: list("allow_out", &self.allow_out)?,
            deny_out: list("deny_out", &self.deny_out)?,
        })
    }
}

impl NetworkPolicy {
    /// Parses the JSON of a policy that was accepted before: see [`deserialize_accepted`].
    ///
    /// # Errors
    /// If the JSON is not a policy.
    pub fn from_accepted_json(json: &str) -> Result<Self, serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_str(json);
        let policy = deserialize_accepted(&mut deserializer)?;
        deserializer.end().map(|()| policy)
    }
}

/// Deserializes a policy that was accepted before. It may contain an IPv6 address without square
/// brackets that could also be a shorter address with a port. An earlier version accepted such
/// addresses, which had no ports.
///
/// # Errors
/// If the data is not a policy.
pub fn deserialize_accepted<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<NetworkPolicy, D::Error> {
    let raw = Raw::deserialize(deserializer)?;
    raw.parse(Entry::parse_accepted).map_err(serde::de::Error::custom)
}
