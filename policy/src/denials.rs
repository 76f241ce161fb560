//! Reports of denials, from the filters and the sidecars to the control plane, for the owners of the sandboxes.
//!
//! A report has no path, no query and no credential. What a sandbox or a stranger chose is a port, an address or a name, and
//! a name has only the characters of [`shown_name`].

use serde::{Deserialize, Serialize};

use crate::ids::SandboxId;
use crate::ingress::denial::Denial;

/// The most denials of one sandbox in a report.
pub const MAX_DENIALS: usize = 50;
/// The most sandboxes in the report of an ingress filter.
pub const MAX_SANDBOXES: usize = 500;
/// The most characters of a destination, which is a domain name at most (RFC 1035, section 2.3.4).
pub const MAX_DESTINATION: usize = 253;
/// The most characters of a rule. The longest one has an entry of a policy with a domain name, a port, and an address.
pub const MAX_RULE: usize = 350;

/// The rule of a denied request whose code is not one of this version's.
const UNKNOWN_RULE: &str = "UNKNOWN";

/// A kind of denied requests to a sandbox.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct InboundDenial {
    /// The port that the requests were for.
    pub port: u16,
    /// The code of the responses, which names the rule. A code that this version does not know is shown as `UNKNOWN`.
    pub rule: String,
}

/// A kind of denied connections, packets or DNS queries of a sandbox.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OutboundDenial {
    /// Where the sandbox sent something: the address, or the name for which the sidecar's DNS gave a virtual address, or the name of
    /// a query. Characters that no domain name has are shown as `?`.
    pub destination: String,
    /// What a TLS connection or a plain HTTP request called its destination (SNI, `Host`), unless that is `destination`. The sandbox
    /// chooses it freely.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// The port, if there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub port: Option<u16>,
    /// How the sandbox tried to reach the destination.
    pub protocol: Protocol,
    /// The rule of the network policy, or another reason.
    pub rule: String,
}

/// What was denied.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// A DNS query for a name.
    Dns,
    /// A plain HTTP request.
    Http,
    /// A TCP connection.
    Tcp,
    /// UDP packets.
    Udp,
    /// ICMP packets.
    Icmp,
    /// Packets of another protocol.
    Other,
}

/// A kind of denials, and their number.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Counted<T> {
    /// What was denied.
    pub denial: T,
    /// How often.
    pub count: u64,
}

/// The denials of one sandbox in one direction.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Denials<T> {
    /// Denials of different kinds, at most [`MAX_DENIALS`].
    pub denials: Vec<Counted<T>>,
    /// The number of further denials, whose kinds the report does not have.
    #[serde(default)]
    pub more: u64,
}

/// The report of an ingress filter.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct InboundReport {
    /// At most 500 sandboxes.
    pub sandboxes: Vec<SandboxInbound>,
    /// The number of denials whose sandboxes the report does not have.
    #[serde(default)]
    pub lost: u64,
}

/// The denied requests to one sandbox.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SandboxInbound {
    /// The canonical id of the sandbox.
    pub sandbox_id: SandboxId,
    /// The denials.
    pub inbound: Denials<InboundDenial>,
}

impl<T> Default for Denials<T> {
    fn default() -> Self {
        Self { denials: Vec::new(), more: 0 }
    }
}

impl InboundDenial {
    /// Restricts the rule, which the sender of a report chose, to what an event may have.
    #[must_use]
    pub fn cleaned(self) -> Self {
        let known = Denial::CODES.iter().find(|code| **code == self.rule);
        Self { rule: (*known.unwrap_or(&UNKNOWN_RULE)).to_owned(), ..self }
    }
}

impl OutboundDenial {
    /// Restricts the texts, which the sender of a report chose, to what an event may have.
    #[must_use]
    pub fn cleaned(self) -> Self {
        let destination = shown_name(self.destination.as_bytes());
        let name = self.name.map(|name| shown_name(name.as_bytes()));
        let name = name.filter(|name| *name != destination);
        Self { destination, name, rule: shown_rule(&self.rule), ..self }
    }
}

/// A name or an address as an event shows it: lower-case letters, digits, and `-_.:*[]`. Each other byte is a `?`, so that a name can
/// neither control a terminal, nor look like another one, nor carry a path or a query. A longer text ends with `...`.
#[must_use]
pub fn shown_name(name: &[u8]) -> String {
    shown(name, MAX_DESTINATION, |byte| byte.is_ascii_alphanumeric() || b"-_.:*[]".contains(&byte))
        .to_ascii_lowercase()
}

/// A rule as an event shows it: printable ASCII.
fn shown_rule(rule: &str) -> String {
    shown(rule.as_bytes(), MAX_RULE, |byte| byte == b' ' || byte.is_ascii_graphic())
}

fn shown(text: &[u8], most: usize, is_shown: impl Fn(u8) -> bool) -> String {
    const CUT: &str = "...";
    let characters = text.iter().map(|byte| if is_shown(*byte) { char::from(*byte) } else { '?' });
    if text.len() <= most {
        return characters.collect();
    }
    characters.take(most.saturating_sub(CUT.len())).chain(CUT.chars()).collect()
}
