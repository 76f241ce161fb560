//! Step 1: the authority of a request, parsed once into what it names.
//!
//! One total grammar; whatever it does not cover is refused, never guessed:
//!
//! ```text
//! authority = host [ "." ] [ ":" port ]        the port of the authority is ignored
//! host      = domain                           the lifecycle API
//!           | "api." domain                    the lifecycle API (as are the configured API hosts)
//!           | [ digits "-" ] sandbox "." domain
//! sandbox   = id | name
//! id        = 21 of [a-z0-9]
//! name      = [a-z] [a-z0-9-]*                 not ending in "-", at most 63 characters
//! ```
//!
//! Ids hold no `-` and names start with a letter, so a label splits in one way only: when all that
//! stands before its first `-` is digits, those are a port.

use std::fmt;

/// The sandbox's built-in management API. Contract: "The management URL on port 9501 always
/// requires auth".
pub const MANAGEMENT_PORT: u16 = 9501;

/// Characters of a sandbox id.
const ID_LENGTH: usize = 21;
/// Bytes of one DNS label (RFC 1035, section 2.3.4).
const LABEL_MAX: usize = 63;
/// Bytes of a whole DNS name (RFC 1035, section 2.3.4).
const NAME_MAX: usize = 253;

/// A domain under which sandboxes are reached: lower-case LDH labels, without a trailing dot.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Domain(String);

impl Domain {
    /// Checks a domain of the configuration.
    ///
    /// # Errors
    /// [`InvalidDomain`] when `text` is not a lower-case DNS name.
    pub fn parse(text: &str) -> Result<Self, InvalidDomain> {
        let good = text.len() <= NAME_MAX && text.split('.').all(is_ldh_label);
        if good { Ok(Self(text.to_owned())) } else { Err(InvalidDomain(text.to_owned())) }
    }

    /// The domain as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `host` (lower-case, no trailing dot) is this domain or lies below it.
    #[must_use]
    pub fn covers(&self, host: &str) -> bool {
        host == self.0 || self.label_below(host).is_some()
    }

    /// What stands before `.domain` in `host`.
    fn label_below<'h>(&self, host: &'h str) -> Option<&'h str> {
        host.strip_suffix(self.0.as_str())?.strip_suffix('.')
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A configured domain that is not a lower-case DNS name.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "`{0}` is not a domain: expected lower-case labels of a-z, 0-9 and `-`, like `sandbox.example.com`"
)]
pub struct InvalidDomain(String);

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

/// A port that an app in a sandbox listens on: never 0, never the management port.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct UserPort(u16);

impl UserPort {
    /// The port number.
    #[must_use]
    pub fn get(self) -> u16 {
        self.0
    }
}

/// A port of a sandbox.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Port {
    /// 9501, spelt out or left out.
    Management,
    /// Any other.
    User(UserPort),
}

impl Port {
    /// Classifies a port number; `None` for 0.
    #[must_use]
    pub fn new(number: u16) -> Option<Self> {
        match number {
            0 => None,
            MANAGEMENT_PORT => Some(Self::Management),
            other => Some(Self::User(UserPort(other))),
        }
    }

    /// The port number.
    #[must_use]
    pub fn get(self) -> u16 {
        match self {
            Self::Management => MANAGEMENT_PORT,
            Self::User(port) => port.0,
        }
    }
}

/// What an authority names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Host {
    /// A configured domain itself.
    Bare,
    /// `api.` under a configured domain.
    Api,
    /// A port of a sandbox.
    Sandbox(SandboxRef, Port),
}

/// Why an authority names nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidHost {
    /// Empty, not ASCII, or no `host[:port]`.
    #[error("the Host header is not a host name with an optional port")]
    Malformed,
    /// Under none of the configured domains, or more than one label below one.
    #[error(
        "the host is not `<port>-<sandbox>.<domain>` or `<sandbox>.<domain>` for a domain that is served here"
    )]
    OtherDomain,
    /// The part before `-` is digits, but not a port.
    #[error("the host's port must be 1 to 65535, without leading zeros")]
    Port,
    /// Neither an id nor a name.
    #[error(
        "the host's sandbox must be a 21-character id or a name of a-z, 0-9 and `-` that starts with a letter and does not end in `-`"
    )]
    Sandbox,
}

impl Host {
    /// Parses the authority of a request against the configured domains.
    ///
    /// # Errors
    /// [`InvalidHost`] for everything outside the grammar of this module.
    pub fn parse(authority: &[u8], domains: &[Domain]) -> Result<Self, InvalidHost> {
        let host = normalize(authority).ok_or(InvalidHost::Malformed)?;
        if domains.iter().any(|domain| domain.0 == host) {
            return Ok(Self::Bare);
        }
        let label = domains
            .iter()
            .find_map(|domain| domain.label_below(&host))
            .filter(|label| !label.contains('.'))
            .ok_or(InvalidHost::OtherDomain)?;
        if label == "api" {
            return Ok(Self::Api);
        }
        if label.len() > LABEL_MAX {
            return Err(InvalidHost::Sandbox);
        }
        match label.split_once('-') {
            Some((digits, sandbox)) if is_digits(digits) => {
                let port = parse_port(digits).ok_or(InvalidHost::Port)?;
                let sandbox = SandboxRef::parse(sandbox).ok_or(InvalidHost::Sandbox)?;
                Ok(Self::Sandbox(sandbox, port))
            }
            _ => {
                let sandbox = SandboxRef::parse(label).ok_or(InvalidHost::Sandbox)?;
                Ok(Self::Sandbox(sandbox, Port::Management))
            }
        }
    }
}

/// The host of an authority in lower case, without its port and without one trailing dot.
pub(crate) fn normalize(authority: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(authority).ok().filter(|text| text.is_ascii())?;
    let host = match text.split_once(':') {
        Some((host, port)) if is_digits(port) && port.parse::<u16>().is_ok() => host,
        Some(_) => return None,
        None => text,
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    (!host.is_empty() && host.len() <= NAME_MAX).then(|| host.to_ascii_lowercase())
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// "Port: 1–65535, digits only, no leading zero, parsed once to u16".
fn parse_port(digits: &str) -> Option<Port> {
    if digits.starts_with('0') {
        return None;
    }
    digits.parse().ok().and_then(Port::new)
}

/// Letters, digits and inner hyphens, lower-case.
fn is_ldh_label(label: &str) -> bool {
    !label.is_empty()
        && label.len() <= LABEL_MAX
        && label.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        && !label.starts_with('-')
        && !label.ends_with('-')
}
