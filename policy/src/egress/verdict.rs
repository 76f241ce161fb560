//! The outcome of a decision.

use std::net::IpAddr;

use super::name::Name;
use super::rule::Rule;

/// Whether a connection or request may go on.
#[derive(Clone, Debug, Eq, PartialEq)]
#[must_use]
pub enum Verdict {
    /// It may, where the permit says.
    Allow(Permit),
    /// It may not.
    Deny(Denial),
}

/// Leave to go on; only [`super::policy`] makes one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Permit {
    route: Route,
    rule: Rule,
}

/// Where to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Route {
    /// To what this name resolves to, whatever address the sandbox chose.
    ByName(Name),
    /// To the address that the sandbox chose.
    Original(IpAddr),
}

/// Refusal.
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

    /// Whether it is an [`Self::Allow`].
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow(_))
    }

    /// The rule that decided.
    #[must_use]
    pub fn rule(&self) -> &Rule {
        match self {
            Self::Allow(permit) => &permit.rule,
            Self::Deny(denial) => &denial.rule,
        }
    }
}

impl Route {
    /// IPv4-mapped addresses are dialled as IPv4: no such packets exist (RFC 4291, section 2.5.5.2).
    pub(super) fn original(address: IpAddr) -> Self {
        Self::Original(address.to_canonical())
    }
}

impl Permit {
    /// Where it may go.
    #[must_use]
    pub fn route(&self) -> &Route {
        &self.route
    }

    /// The rule that allowed it.
    #[must_use]
    pub fn rule(&self) -> &Rule {
        &self.rule
    }
}

impl Denial {
    /// The rule that forbade it.
    #[must_use]
    pub fn rule(&self) -> &Rule {
        &self.rule
    }
}
