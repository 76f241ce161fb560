//! The result of a decision.

use std::net::IpAddr;

use super::name::Name;
use super::rule::Rule;

/// Whether a connection or request is allowed.
#[derive(Clone, Debug, Eq, PartialEq)]
#[must_use]
pub enum Verdict {
    /// Allowed, by the route of the permit.
    Allow(Permit),
    /// Denied.
    Deny(Denial),
}

/// Permission to connect. Only [`super::policy`] creates a permit.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Permit {
    route: Route,
    rule: Rule,
}

/// The destination that Envoy connects to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Route {
    /// An address that this name resolves to. The address that the sandbox chose is ignored.
    ByName(Name),
    /// The address that the sandbox chose.
    Original(IpAddr),
}

/// A denial, with the rule that caused it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Denial {
    rule: Rule,
}

impl Verdict {
    pub(super) fn allow(route: Route, rule: Rule) -> Self {
        Self::Allow(Permit { route, rule })
    }

    pub(super) fn deny(rule: Rule) -> Self {
        Self::Deny(Denial { rule })
    }

    /// Whether the connection or request is allowed.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow(_))
    }

    /// The rule that caused the verdict.
    #[must_use]
    pub fn rule(&self) -> &Rule {
        match self {
            Self::Allow(permit) => &permit.rule,
            Self::Deny(denial) => &denial.rule,
        }
    }
}

impl Route {
    /// A route to the address. An IPv4-mapped address becomes the IPv4 address, because no
    /// IPv4-mapped packets exist (RFC 4291, section 2.5.5.2).
    pub(super) fn original(address: IpAddr) -> Self {
        Self::Original(address.to_canonical())
    }
}

impl Permit {
    /// The destination that Envoy connects to.
    #[must_use]
    pub fn route(&self) -> &Route {
        &self.route
    }

    /// The rule that allowed the connection.
    #[must_use]
    pub fn rule(&self) -> &Rule {
        &self.rule
    }
}

impl Denial {
    /// The rule that denied the connection.
    #[must_use]
    pub fn rule(&self) -> &Rule {
        &self.rule
    }
}
