//! Identifiers of sandboxes.

use crate::dns_label::is_ldh_label;

/// Characters of a sandbox id.
const ID_LENGTH: usize = 21;

/// A sandbox as a host names it.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum SandboxRef {
    /// Canonical id.
    Id(String),
    /// Name, to be resolved to an id.
    Name(String),
}

impl SandboxRef {
    /// Parses an id or a name: `[a-z0-9]{21}`, or `[a-z][a-z0-9-]*` not ending in `-`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() == ID_LENGTH && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9')) {
            return Some(Self::Id(text.to_owned()));
        }
        let named = text.starts_with(|c: char| c.is_ascii_lowercase()) && is_ldh_label(text);
        named.then(|| Self::Name(text.to_owned()))
    }

    /// The id or the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Id(text) | Self::Name(text) => text,
        }
    }
}
