//! A decision, as access logs and metrics show it.

use sandgate_policy::egress::config::EgressConfig;
use sandgate_policy::egress::{Rule, Verdict};

/// The two filters of the module.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FilterKind {
    /// The network filter, which sees connections.
    Tcp,
    /// The HTTP filter, which sees plain HTTP requests.
    Http,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// The stream may go to its upstream.
    Allowed,
    /// The stream may not go to any upstream.
    Denied,
    /// The stream was allowed, and a later policy denies it.
    Closed,
}

impl Outcome {
    /// The word for it in access logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Allowed => "allow",
            Self::Denied => "deny",
            Self::Closed => "closed",
        }
    }
}

/// One decision about a connection or request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Decision {
    pub kind: FilterKind,
    pub outcome: Outcome,
    pub rule: Rule,
    /// The policy generation that the decision used.
    pub generation: u64,
}

impl Decision {
    pub(crate) fn of(kind: FilterKind, verdict: &Verdict, config: &EgressConfig) -> Self {
        let outcome = if verdict.is_allowed() { Outcome::Allowed } else { Outcome::Denied };
        Self { kind, outcome, rule: verdict.rule().clone(), generation: config.generation() }
    }
}
