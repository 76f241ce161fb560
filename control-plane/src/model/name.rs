//! Names of sandboxes. A name is a label in host names, so it follows their rules.

use std::fmt;

use sandgate_policy::ids::SandboxRef;

/// Labels under a sandbox domain that don't name sandboxes.
const RESERVED: [&str; 2] = ["api", "www"];
/// The prefix of internationalized labels in DNS. Permitting them would permit look-alike names.
const PUNYCODE: &str = "xn--";

/// A name that an owner gave a sandbox.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SandboxName(String);

/// Why a text is not a valid name.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidName {
    /// An invalid character, first character, or last character, or an empty text.
    #[error(
        "`name` must be lower-case letters, digits and `-`, start with a letter and not end in `-`"
    )]
    Characters,
    /// The text has the form of an id.
    #[error("`name` must not be 21 letters and digits, as sandbox ids are")]
    LikeAnId,
    /// With the longest port before it, the text is too long for a label.
    #[error("`name` must be at most {} characters", SandboxName::MAX_LENGTH)]
    Length,
    /// The text is reserved.
    #[error("`name` must not be `api` or `www`, nor start with `xn--`")]
    Reserved,
}

impl SandboxName {
    /// `65535-` and a name must fit into the 63 bytes of a DNS label.
    pub const MAX_LENGTH: usize = 57;

    /// Checks a name.
    ///
    /// # Errors
    /// [`InvalidName`]
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let characters = text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        let first = text.starts_with(|c: char| c.is_ascii_lowercase());
        if text.len() > Self::MAX_LENGTH {
            return Err(InvalidName::Length);
        }
        match SandboxRef::parse(text) {
            Some(SandboxRef::Id(_)) if first => Err(InvalidName::LikeAnId),
            Some(SandboxRef::Name(_)) if characters => {
                if RESERVED.contains(&text) || text.starts_with(PUNYCODE) {
                    return Err(InvalidName::Reserved);
                }
                Ok(Self(text.to_owned()))
            }
            _ => Err(InvalidName::Characters),
        }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SandboxName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_leave_space_for_a_port_in_a_dns_label_are_valid() {
        let longest = "a".repeat(57);
        for name in ["a", "my-env", "a1", "a--b", "apis", "x-n", longest.as_str()] {
            assert_eq!(SandboxName::parse(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn each_rule_has_its_own_error() {
        let cases = [
            ("", InvalidName::Characters),
            ("1a", InvalidName::Characters),
            ("-a", InvalidName::Characters),
            ("a-", InvalidName::Characters),
            ("My-Env", InvalidName::Characters),
            ("a.b", InvalidName::Characters),
            ("a_b", InvalidName::Characters),
            ("ä", InvalidName::Characters),
            ("a\0", InvalidName::Characters),
            ("abcdefghijklmnopqrstu", InvalidName::LikeAnId),
            ("1bcdefghijklmnopqrstu", InvalidName::Characters),
            ("api", InvalidName::Reserved),
            ("www", InvalidName::Reserved),
            ("xn--a", InvalidName::Reserved),
        ];
        for (name, error) in cases {
            assert_eq!(SandboxName::parse(name), Err(error), "{name:?}");
        }
        assert_eq!(SandboxName::parse(&"a".repeat(58)), Err(InvalidName::Length));
    }
}
