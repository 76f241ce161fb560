//! What a sandbox's owner says about its way out, as the API takes and shows it.

use serde::{Deserialize, Serialize};

use super::entry::Entry;
use super::list::{self, BadEntry};

/// Entries that one list may have.
pub const ENTRIES_MAX: usize = 1_000;

/// A network policy. Strict: a key that is not known is an error, so that a typo can't switch a
/// protection off in silence. A key that is missing has its default.
///
/// Contract, "Network Configuration Summary".
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(try_from = "Raw")]
pub struct NetworkPolicy {
    /// Whether what no entry names is allowed, as far as it is globally routable.
    #[cfg_attr(feature = "openapi", schema(default = true))]
    pub allow_internet_access: bool,
    /// Allowed whatever `allow_internet_access` says; looked at before `deny_out`.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub allow_out: Vec<Entry>,
    /// Denied.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub deny_out: Vec<Entry>,
}

impl Default for NetworkPolicy {
    /// The whole internet, and nothing else.
    fn default() -> Self {
        Self { allow_internet_access: true, allow_out: Vec::new(), deny_out: Vec::new() }
    }
}

/// The wire form, before its entries are understood.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default = "yes")]
    allow_internet_access: bool,
    #[serde(default)]
    allow_out: Vec<String>,
    #[serde(default)]
    deny_out: Vec<String>,
}

fn yes() -> bool {
    true
}

/// What is wrong with a policy, and where.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidNetworkPolicy {
    /// An entry that is neither an address, a range nor a domain.
    #[error(transparent)]
    Entry(#[from] BadEntry),
    /// A list that is too long.
    #[error(
        "`{field}` has {count} entries; at most {ENTRIES_MAX} are allowed: join addresses to ranges, or names to `*.` domains"
    )]
    TooMany {
        /// The list.
        field: &'static str,
        /// How many entries it has.
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
