//! DNS names, normalised once, and the patterns that policies are written in.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Bytes of one label (RFC 1035, section 2.3.4).
const LABEL_MAX: usize = 63;
/// Bytes of a whole name as text, without a trailing dot (RFC 1035, section 2.3.4).
const NAME_MAX: usize = 253;

/// One DNS name: lower case, without a trailing dot, labels of `a-z`, `0-9`, `-` and `_`.
///
/// Internationalised names are held as A-labels (`xn--…`, RFC 5890, section 2.3.2.1), since that is
/// what DNS, SNI and Host carry. Never an IP address in any notation that some resolver would take
/// for one: a name whose last label is a number is refused, as in the URL standard's "ends in a
/// number" check.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// Why a text is not a [`Name`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidName {
    /// Its last label is a number, so that some programs would read an IPv4 address out of it.
    #[error(
        "looks like an IP address but is none; write an IPv4 address as four decimal numbers without leading zeros"
    )]
    Address,
    /// A character that no label holds.
    #[error("holds {0:?}; the labels of a name are of letters, digits, `-` and `_`")]
    Character(char),
    /// Nothing is there.
    #[error("is empty")]
    Empty,
    /// Two dots in a row, or one at the start.
    #[error("has an empty label; write the labels with one dot between them")]
    EmptyLabel,
    /// Over 63 bytes between two dots.
    #[error("has a label of more than 63 characters")]
    LongLabel,
    /// Over 253 bytes in all.
    #[error("is longer than 253 characters")]
    Long,
    /// A U-label.
    #[error("is not ASCII; write the name's ASCII form, whose labels start with `xn--`")]
    Unicode,
}

impl Name {
    /// Parses and normalises a name. One trailing dot is allowed, and dropped.
    ///
    /// # Errors
    /// [`InvalidName`], for all that is not a name in the sense of this type.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let name = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() {
            return Err(InvalidName::Empty);
        }
        if name.len() > NAME_MAX {
            return Err(InvalidName::Long);
        }
        if !name.is_ascii() {
            return Err(InvalidName::Unicode);
        }
        if let Some(odd) = name.chars().find(|c| !is_name_character(*c)) {
            return Err(InvalidName::Character(odd));
        }
        if name.split('.').any(str::is_empty) {
            return Err(InvalidName::EmptyLabel);
        }
        if name.split('.').any(|label| label.len() > LABEL_MAX) {
            return Err(InvalidName::LongLabel);
        }
        if name.rsplit('.').next().is_some_and(is_number) {
            return Err(InvalidName::Address);
        }
        Ok(Self(name.to_ascii_lowercase()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The names that this one lies below, nearest first: `a.b.c` lies below `b.c` and `c`.
    pub(super) fn ancestors(&self) -> impl Iterator<Item = &str> {
        std::iter::successors(parent(&self.0), |name| parent(name))
    }
}

/// What stands behind the first label.
fn parent(name: &str) -> Option<&str> {
    name.split_once('.').map(|(_, parent)| parent)
}

fn is_name_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')
}

/// Whether a label is what an IPv4 parser takes for a number: decimal, octal or hexadecimal
/// (URL standard, "ends-in-a-number checker").
fn is_number(label: &str) -> bool {
    let hex = label.strip_prefix("0x").or_else(|| label.strip_prefix("0X"));
    label.bytes().all(|b| b.is_ascii_digit())
        || hex.is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// For look-ups by text: names compare as their text does.
impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Name {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        Self::parse(&text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which names an entry of a policy means, compared by whole labels.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum DomainPattern {
    /// `*.example.com`: every name below `example.com`, at any depth; not itself.
    Below(Name),
    /// `example.com`: that name alone.
    Exact(Name),
}

impl DomainPattern {
    /// Whether the pattern means this name.
    #[must_use]
    pub fn matches(&self, name: &Name) -> bool {
        match self {
            Self::Below(parent) => name.ancestors().any(|ancestor| ancestor == parent.as_str()),
            Self::Exact(exact) => exact == name,
        }
    }
}

impl fmt::Display for DomainPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Below(parent) => write!(f, "*.{parent}"),
            Self::Exact(name) => name.fmt(f),
        }
    }
}
