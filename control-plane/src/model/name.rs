//! Names of sandboxes. They are host names, so they share the rules of those.

use std::fmt;

use sandgate_policy::ids::SandboxRef;

/// Host names under a sandbox domain that are not sandboxes.
const RESERVED: [&str; 2] = ["api", "www"];
/// What names in other scripts start with in DNS; letting owners choose them would allow look-alikes.
const PUNYCODE: &str = "xn--";

/// A name that an owner gave a sandbox.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SandboxName(String);

/// Why a text is no name for a sandbox.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidName {
    /// A character, the first or the last one, that a name can't have; or empty.
    #[error(
        "`name` must be lower-case letters, digits and `-`, start with a letter and not end in `-`"
    )]
    Characters,
    /// Looks like an id.
    #[error("`name` must not be 21 letters and digits, as sandbox ids are")]
    LikeAnId,
    /// No room for the longest port before it.
    #[error("`name` must be at most {} characters", SandboxName::MAX_LENGTH)]
    Length,
    /// Has a meaning of its own.
    #[error("`name` must not be `api` or `www`, nor start with `xn--`")]
    Reserved,
}

impl SandboxName {
    /// `65535-` and a name must fit the 63 bytes of a DNS label.
    pub const MAX_LENGTH: usize = 57;

    /// Checks a name.
    ///
    /// # Errors
    /// [`InvalidName`] says which rule it breaks.
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

    /// The name.
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
    fn names_that_fit_every_port_into_a_dns_label_are_good() {
        let longest = "a".repeat(57);
        for name in ["a", "my-env", "a1", "a--b", "apis", "x-n", longest.as_str()] {
            assert_eq!(SandboxName::parse(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn each_broken_rule_has_its_own_error() {
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
