//! The rule that decided, for people, logs and metrics.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::entry::Entry;

/// What decided about a connection or a query.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Rule {
    /// The policy's `allow_internet_access`.
    AllowInternetAccess,
    /// Some name of `allow_out`; Envoy knows which. Only in [`super::Policy::dial_rules`].
    AllowedName,
    /// An entry of the policy's `allow_out`.
    AllowOut(Entry),
    /// Nothing allowed it.
    Default,
    /// An entry of the policy's `deny_out`.
    DenyOut(Entry),
    /// The same, by an address that a name which it denies is known to have: no name was in sight.
    DenyOutAt(Entry, IpAddr),
    /// A range that no policy can open.
    Guardrail(IpNet),
    /// The request's Host is not understood, and rules are about names.
    HostNotUnderstood,
    /// A virtual address that many names share, and the connection shows none.
    NoName,
    /// `allow_internet_access` would allow it, if the address were of the internet.
    NotGlobal,
    /// The handshake's server name is not understood, and rules are about names.
    SniNotUnderstood,
}

impl Rule {
    /// All of [`Self::kind`], for metrics that are defined before they count.
    pub const KINDS: [&'static str; 10] = [
        "allow_internet_access",
        "allow_out",
        "allowed_name",
        "default",
        "deny_out",
        "guardrail",
        "host_not_understood",
        "no_name",
        "not_global",
        "sni_not_understood",
    ];

    /// The rule without its entry: one of [`Self::KINDS`].
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::AllowInternetAccess => "allow_internet_access",
            Self::AllowedName => "allowed_name",
            Self::AllowOut(_) => "allow_out",
            Self::Default => "default",
            Self::DenyOut(_) | Self::DenyOutAt(..) => "deny_out",
            Self::Guardrail(_) => "guardrail",
            Self::HostNotUnderstood => "host_not_understood",
            Self::NoName => "no_name",
            Self::NotGlobal => "not_global",
            Self::SniNotUnderstood => "sni_not_understood",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AllowInternetAccess => f.write_str("allow_internet_access"),
            Self::AllowedName => f.write_str("a name of allow_out"),
            Self::AllowOut(entry) => write!(f, "allow_out {entry}"),
            Self::Default => f.write_str("default deny"),
            Self::DenyOut(entry) => write!(f, "deny_out {entry}"),
            Self::DenyOutAt(entry, address) => write!(f, "deny_out {entry} ({address})"),
            Self::Guardrail(range) => write!(f, "guardrail {range}"),
            Self::HostNotUnderstood => f.write_str("Host not understood"),
            Self::NoName => f.write_str("no name in sight"),
            Self::NotGlobal => f.write_str("not globally routable"),
            Self::SniNotUnderstood => f.write_str("SNI not understood"),
        }
    }
}
