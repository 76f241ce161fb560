//! Parses the host name of a request into the target of the request.
//!
//! The grammar covers all accepted authorities. All others are refused:
//!
//! ```text
//! authority = host [ "." ] [ ":" port ]        the port of the authority is ignored
//! host      = domain                           the public API
//!           | "api." domain                    the public API (as are the configured API hosts)
//!           | [ digits "-" ] sandbox "." domain
//! sandbox   = id | name
//! id        = 21 of [a-z0-9]
//! name      = [a-z] [a-z0-9-]*                 not ending in "-"; the whole label is at most 63 bytes
//! ```
//!
//! An id contains no `-`, and a name starts with a letter, so there is only one way to split a label: if everything
//! before its first `-` is digits, these digits are the port.

use crate::dns_label::LABEL_MAX;
use crate::ids::SandboxRef;

use super::authority::{HostName, is_digits};
use super::domain::Domain;
use super::port::Port;

/// The target of a host name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Target {
    /// A configured domain itself.
    Bare,
    /// `api.` under a configured domain.
    Api,
    /// A port of a sandbox.
    Sandbox(SandboxRef, Port),
}

/// The reason why a host has no target.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidHost {
    /// Not a [`HostName`]: empty, not ASCII, or no `host[:port]`.
    #[error("the Host header is not a host name with an optional port")]
    Malformed,
    /// The host is not in a configured domain, or is more than one label below it.
    #[error(
        "the host is not `<port>-<sandbox>.<domain>` or `<sandbox>.<domain>` for a domain that is served here"
    )]
    OtherDomain,
    /// The digits before the first `-` are not a port number.
    #[error("the host's port must be 1 to 65535, without leading zeros")]
    Port,
    /// The rest of the label is neither an id nor a name, or the label is too long.
    #[error(
        "the host's sandbox must be a 21-character id or a name of a-z, 0-9 and `-` that starts with a letter and does not end in `-`; the first label of the host has at most 63 characters"
    )]
    Sandbox,
}

impl Target {
    /// Finds the target of a host name under the configured domains.
    ///
    /// # Errors
    /// [`InvalidHost`] for everything outside the grammar of this module.
    pub fn parse(host: &HostName, domains: &[Domain]) -> Result<Self, InvalidHost> {
        let host = host.as_str();
        if domains.iter().any(|domain| domain.as_str() == host) {
            return Ok(Self::Bare);
        }
        let label = domains
            .iter()
            .find_map(|domain| domain.label_below(host))
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

/// Parses the digits of a port: 1 to 65535, without leading zeros.
fn parse_port(digits: &str) -> Option<Port> {
    if digits.starts_with('0') {
        return None;
    }
    digits.parse().ok().and_then(Port::new)
}
