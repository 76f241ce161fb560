//! Identifiers. A value of these types has been checked once, where it was parsed, so a decision never compares or
//! forwards text that can't be an identifier.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::dns_label::is_ldh_label;

/// The number of characters of a [`SandboxId`].
pub const SANDBOX_ID_LENGTH: usize = 21;
/// The maximum number of characters of all other identifiers.
pub const ID_MAX: usize = 128;

/// The reason why a text is not an identifier.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("is not the id of {kind}: expected {expected}")]
pub struct InvalidId {
    kind: &'static str,
    expected: &'static str,
}

/// Defines an identifier: a checked text, which is also its form in JSON.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $expected:literal, $pattern:literal, $is_valid:path) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = String, pattern = $pattern))]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Parses an identifier.
            ///
            /// # Errors
            /// [`InvalidId`], if the text is not of the form that this type documents.
            pub fn parse(text: &str) -> Result<Self, InvalidId> {
                // Checked first, so that text that is not an id is not copied.
                if $is_valid(text) { Ok(Self(text.to_owned())) } else { Err(Self::INVALID) }
            }

            const INVALID: InvalidId = InvalidId { kind: $kind, expected: $expected };

            /// The identifier as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                if $is_valid(&text) { Ok(Self(text)) } else { Err(Self::INVALID) }
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::parse(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        /// An identifier equals the text that it is parsed from.
        impl PartialEq<str> for $name {
            fn eq(&self, text: &str) -> bool {
                self.0 == text
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, text: &&str) -> bool {
                self.0 == *text
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id! {
    /// The id of an organization, which owns projects: 1 to 128 characters of `A-Z`, `a-z`, `0-9`, `_`, `-`, and `.`.
    OrganizationId, "an organization", "1 to 128 letters, digits, `_`, `-` and `.`",
    "^[A-Za-z0-9_.-]{1,128}$", is_token
}
id! {
    /// The id of a project, which owns sandboxes: 1 to 128 characters of `A-Z`, `a-z`, `0-9`, `_`, `-`, and `.`.
    ProjectId, "a project", "1 to 128 letters, digits, `_`, `-` and `.`",
    "^[A-Za-z0-9_.-]{1,128}$", is_token
}
id! {
    /// The id of a principal, the identity that a credential belongs to: an API key's id, or a user's. 1 to 128
    /// characters of visible ASCII. It is not secret.
    PrincipalId, "a principal", "1 to 128 characters of visible ASCII", "^[!-~]{1,128}$", is_visible
}
id! {
    /// The canonical id of a sandbox: 21 characters of `a-z` and `0-9`. Unlike a name, it never changes.
    SandboxId, "a sandbox", "21 characters of a-z and 0-9", "^[a-z0-9]{21}$", is_sandbox_id
}

fn is_token(text: &str) -> bool {
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    (1..=ID_MAX).contains(&text.len()) && text.bytes().all(is_allowed)
}

fn is_visible(text: &str) -> bool {
    (1..=ID_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

fn is_sandbox_id(text: &str) -> bool {
    let is_allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    text.len() == SANDBOX_ID_LENGTH && text.bytes().all(is_allowed)
}

impl SandboxId {
    /// The id as a reference that can be looked up.
    #[must_use]
    pub fn to_ref(&self) -> SandboxRef {
        SandboxRef::Id(self.clone())
    }
}

/// A sandbox as a host or a path names it. An id has no `-`, and 21 characters without `-` are always an id, so each
/// text has one reading.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum SandboxRef {
    /// The canonical id.
    Id(SandboxId),
    /// A name, which must be resolved to an id.
    Name(String),
}

impl SandboxRef {
    /// Parses an id, or a name: `[a-z][a-z0-9-]*`, not ending in `-`, at most 63 characters.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(id) = SandboxId::parse(text) {
            return Some(Self::Id(id));
        }
        let is_name = text.starts_with(|c: char| c.is_ascii_lowercase()) && is_ldh_label(text);
        is_name.then(|| Self::Name(text.to_owned()))
    }

    /// The id or the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Id(id) => id.as_str(),
            Self::Name(name) => name,
        }
    }
}
