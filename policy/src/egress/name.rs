//! DNS names, normalised when they are parsed, and the patterns of a policy's entries.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The maximum length of a label, in bytes (RFC 1035, section 2.3.4).
const LABEL_MAX: usize = 63;
/// The maximum length of a name as text without a trailing dot, in bytes (RFC 1035, section 2.3.4).
const NAME_MAX: usize = 253;

/// A DNS name in lower case, without a trailing dot. Its labels consist of `a-z`, `0-9`, `-` and
/// `_`.
///
/// Internationalised names are stored as A-labels (`xn--…`, RFC 5890, section 2.3.2.1), because
/// DNS, SNI and Host carry A-labels. A `Name` is never an IP address in any notation that a
/// resolver may accept: a name whose last label is a number is refused, as in the "ends-in-a-number
/// checker" of the URL standard.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// The reason why a text is not a [`Name`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidName {
    /// The last label is a number, so some programs would read the text as an IPv4 address.
    #[error(
        "looks like an IP address but is not valid; write an IPv4 address as four decimal numbers without leading zeros"
    )]
    Address,
    /// A label contains a character that is not allowed.
    #[error("contains {0:?}; a label consists of letters, digits, `-` and `_`")]
    Character(char),
    /// The text is empty.
    #[error("is empty")]
    Empty,
    /// The text has two consecutive dots, or starts with a dot.
    #[error("has an empty label; write one dot between two labels")]
    EmptyLabel,
    /// A label is longer than 63 bytes.
    #[error("has a label of more than 63 characters")]
    LongLabel,
    /// The name is longer than 253 bytes.
    #[error("is longer than 253 characters")]
    Long,
    /// The text is not ASCII, for example a U-label.
    #[error("is not ASCII; write the name's ASCII form, whose labels start with `xn--`")]
    Unicode,
}

impl Name {
    /// Parses and normalises a name. Drops one trailing dot.
    ///
    /// # Errors
    /// [`InvalidName`], if the text is not a name as this type defines it.
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

    /// The normalised text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The parent domains of this name, nearest first: `b.c` and `c` for `a.b.c`.
    pub(super) fn ancestors(&self) -> impl Iterator<Item = &str> {
        std::iter::successors(parent(&self.0), |name| parent(name))
    }
}

/// The name without its first label.
fn parent(name: &str) -> Option<&str> {
    name.split_once('.').map(|(_, parent)| parent)
}

fn is_name_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')
}

/// Whether an IPv4 parser accepts the label as a number: decimal, octal or hexadecimal (URL
/// standard, "ends-in-a-number checker").
fn is_number(label: &str) -> bool {
    let hex = label.strip_prefix("0x").or_else(|| label.strip_prefix("0X"));
    label.bytes().all(|b| b.is_ascii_digit())
        || hex.is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Allows lookups by text: names compare as their text does.
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

/// The names that an entry of a policy matches. Names are compared by whole labels.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum DomainPattern {
    /// `*.example.com`: all names below `example.com`, at any depth, but not `example.com`.
    Below(Name),
    /// `example.com`: only that name.
    Exact(Name),
}

impl DomainPattern {
    /// Whether the pattern matches the name.
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
