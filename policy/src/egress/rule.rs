//! The rule that caused a verdict, for error messages, logs, and metrics.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::entry::Entry;

/// The rule that caused the verdict about a connection or a DNS query.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Rule {
    /// The policy's `allow_internet_access`.
    AllowInternetAccess,
    /// A name of `allow_out`. Envoy knows which name. Only [`super::Policy::upstream_address_rules`] uses this
    /// rule.
    AllowedName,
    /// An entry of the policy's `allow_out`.
    AllowOut(Entry),
    /// No rule allows the destination.
    Default,
    /// An entry of the policy's `deny_out`.
    DenyOut(Entry),
    /// An entry of `deny_out` that denies a name. The connection shows no name, and its address is
    /// a known address of that name.
    DenyOutAt(Entry, IpAddr),
    /// A protected range, which no policy can allow.
    Guardrail(IpNet),
    /// The request's Host is not valid, and the policy has rules about names.
    InvalidHost,
    /// The destination is a virtual address, and no name is known.
    NoName,
    /// `allow_internet_access` is set, but the address is not globally routable.
    NotGlobal,
    /// The server name of the TLS handshake is not valid, and the policy has rules about names.
    InvalidSni,
}

impl Rule {
    /// All values of [`Self::kind`]. The metrics are defined from this list before anything is
    /// counted.
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

    /// The kind of the rule, without its entry: one of [`Self::KINDS`].
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::AllowInternetAccess => "allow_internet_access",
            Self::AllowedName => "allowed_name",
            Self::AllowOut(_) => "allow_out",
            Self::Default => "default",
            Self::DenyOut(_) | Self::DenyOutAt(..) => "deny_out",
            Self::Guardrail(_) => "guardrail",
            Self::InvalidHost => "host_not_understood",
            Self::NoName => "no_name",
            Self::NotGlobal => "not_global",
            Self::InvalidSni => "sni_not_understood",
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
            Self::InvalidHost => f.write_str("Host not understood"),
            Self::NoName => f.write_str("no name shown"),
            Self::NotGlobal => f.write_str("not globally routable"),
            Self::InvalidSni => f.write_str("SNI not understood"),
        }
    }
}
