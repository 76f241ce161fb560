//! The network policy of a sandbox's owner, as the API accepts and returns it.

use serde::{Deserialize, Serialize};

use super::entry::Entry;
use super::list::{self, InvalidListEntry};

/// The maximum number of entries of one list.
pub const ENTRIES_MAX: usize = 1_000;

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
    /// An entry is neither an address, a range nor a domain.
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
}

impl TryFrom<Raw> for NetworkPolicy {
    type Error = InvalidNetworkPolicy;

    fn try_from(raw: Raw) -> Result<Self, InvalidNetworkPolicy> {
        Ok(Self {
            allow_internet_access: raw.allow_internet_access,
            allow_out: parse("allow_out", &raw.allow_out)?,
            deny_out: parse("deny_out", &raw.deny_out)?,
        })
    }
}

fn parse(field: &'static str, entries: &[String]) -> Result<Vec<Entry>, InvalidNetworkPolicy> {
    if entries.len() > ENTRIES_MAX {
        return Err(InvalidNetworkPolicy::TooMany { field, count: entries.len() });
    }
    Ok(list::parse(field, entries, Entry::parse)?)
}
