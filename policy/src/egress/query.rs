//! The same policy for DNS: what a name that is asked for gets.

use std::net::IpAddr;

use super::entry::Entry;
use super::name::{DomainPattern, Name};
use super::operator::RuleOrder;
use super::policy::Policy;
use super::rule::Rule;
use super::verdict::Verdict;

/// What to do with a query.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Lookup {
    /// Ask a resolver, and judge what it answers.
    Forward,
    /// NXDOMAIN, for every type.
    Refuse(Rule),
    /// Addresses: the virtual ones that stand for this name alone.
    Virtual,
    /// Addresses: the virtual ones that stand for all names which only a wildcard allows.
    VirtualWildcard,
}

impl Policy {
    /// Judges a query to the resolver that the sandbox was given.
    #[must_use]
    pub fn judge_query(&self, name: &Name) -> Lookup {
        let unlisted = if self.internet { Lookup::Forward } else { Lookup::Refuse(Rule::Default) };
        self.judge_listed(name).unwrap_or(unlisted)
    }

    /// Judges a query to a resolver that [`Self::allowed_resolver`] has: that is where it goes,
    /// and no name but a denied one is refused.
    #[must_use]
    pub fn judge_query_to_allowed(&self, name: &Name) -> Lookup {
        self.judge_listed(name).unwrap_or(Lookup::Forward)
    }

    /// The rule by which the sandbox may ask the resolver at this address, rather than the one that
    /// it was given: an entry of `allow_out`. Contract: `allow_out=["10.0.0.0/8", "8.8.8.8"]`.
    #[must_use]
    pub fn allowed_resolver(&self, address: IpAddr) -> Option<Rule> {
        match self.judge_address(address) {
            Verdict::Allow(permit) => {
                Some(permit.rule().clone()).filter(|rule| matches!(rule, Rule::AllowOut(_)))
            }
            Verdict::Deny(_) => None,
        }
    }

    /// What the lists say of a name.
    fn judge_listed(&self, name: &Name) -> Option<Lookup> {
        let allow = || {
            let entry = self.allow.has_name(name)?;
            Some(match entry {
                _ if self.internet => Lookup::Forward,
                Entry::Domain(DomainPattern::Exact(_)) => Lookup::Virtual,
                _ => Lookup::VirtualWildcard,
            })
        };
        let deny = || self.deny.has_name(name).map(|entry| Lookup::Refuse(Rule::DenyOut(entry)));
        match self.order {
            RuleOrder::AllowFirst => allow().or_else(deny),
            RuleOrder::DenyFirst => deny().or_else(allow),
        }
    }
}
