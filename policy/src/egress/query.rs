//! The policy for DNS: the response to a query for a name.

use std::net::IpAddr;

use super::entry::Entry;
use super::name::{DomainPattern, Name};
use super::operator::RuleOrder;
use super::policy::Policy;
use super::rule::Rule;
use super::verdict::Verdict;

/// The action for a query.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum QueryAction {
    /// Forward the query to a resolver, and evaluate the response.
    Forward,
    /// Respond with NXDOMAIN, for every query type.
    Deny(Rule),
    /// Respond with the virtual addresses of this name alone.
    Virtual,
    /// Respond with the virtual addresses that all names share which only a wildcard allows.
    VirtualWildcard,
}

impl Policy {
    /// Evaluates a query to the resolver that the sandbox is configured with.
    #[must_use]
    pub fn evaluate_query(&self, name: &Name) -> QueryAction {
        let unlisted =
            if self.internet { QueryAction::Forward } else { QueryAction::Deny(Rule::Default) };
        self.match_lists(name).unwrap_or(unlisted)
    }

    /// Evaluates a query to a resolver that [`Self::allowed_resolver`] allows. The query is
    /// forwarded to that resolver unless the name is denied.
    #[must_use]
    pub fn evaluate_query_to_allowed_resolver(&self, name: &Name) -> QueryAction {
        self.match_lists(name).unwrap_or(QueryAction::Forward)
    }

    /// The entry of `allow_out` that allows the sandbox to query the resolver at this address
    /// instead of the configured one.
    #[must_use]
    pub fn allowed_resolver(&self, address: IpAddr) -> Option<Rule> {
        match self.evaluate_address(address) {
            Verdict::Allow(permit) => {
                Some(permit.rule().clone()).filter(|rule| matches!(rule, Rule::AllowOut(_)))
            }
            Verdict::Deny(_) => None,
        }
    }

    /// The action by `allow_out` and `deny_out`, if one of them matches the name.
    fn match_lists(&self, name: &Name) -> Option<QueryAction> {
        let allow = || {
            let entry = self.allow.match_name(name)?;
            Some(match entry {
                _ if self.internet => QueryAction::Forward,
                Entry::Domain(DomainPattern::Exact(_)) => QueryAction::Virtual,
                _ => QueryAction::VirtualWildcard,
            })
        };
        let deny =
            || self.deny.match_name(name).map(|entry| QueryAction::Deny(Rule::DenyOut(entry)));
        match self.order {
            RuleOrder::AllowFirst => allow().or_else(deny),
            RuleOrder::DenyFirst => deny().or_else(allow),
        }
    }
}
