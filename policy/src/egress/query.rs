//! The policy for DNS: the response to a query for a name.
//!
//! A query shows no port. A name resolves if the policy allows it on at least one port; the decision
//! about a connection considers its port.

use std::net::IpAddr;

use super::entry::Target;
use super::name::{DomainPattern, Name};
use super::operator::RuleOrder;
use super::policy::Policy;
use super::ports::Ports;
use super::rule::Rule;
use super::verdict::Verdict;

/// The port of DNS.
const DNS_PORT: u16 = 53;

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

impl QueryAction {
    /// The rank among the actions for several ports. The highest one is the action for the query.
    fn rank(&self) -> u8 {
        match self {
            Self::Deny(Rule::Default) => 0,
            Self::Deny(_) => 1,
            Self::Forward => 2,
            Self::VirtualWildcard => 3,
            Self::Virtual => 4,
        }
    }
}

impl Policy {
    /// Evaluates a query to the resolver that the sandbox is configured with.
    #[must_use]
    pub fn evaluate_query(&self, name: &Name) -> QueryAction {
        let unlisted =
            if self.internet { QueryAction::Forward } else { QueryAction::Deny(Rule::Default) };
        self.query_action(name, &unlisted)
    }

    /// Evaluates a query to a resolver that [`Self::allowed_resolver`] allows. The query is
    /// forwarded to that resolver unless the name is denied.
    #[must_use]
    pub fn evaluate_query_to_allowed_resolver(&self, name: &Name) -> QueryAction {
        self.query_action(name, &QueryAction::Forward)
    }

    /// The entry of `deny_out` that denies the name on all ports, if any.
    #[must_use]
    pub fn denies_name(&self, name: &Name) -> Option<Rule> {
        match self.evaluate_query_to_allowed_resolver(name) {
            QueryAction::Deny(rule) => Some(rule),
            _ => None,
        }
    }

    /// [`Self::evaluate_name`] on the port that allows most: a permit by an entry of `allow_out` if
    /// there is one, or else a permit by another rule.
    pub fn evaluate_name_on_any_port(&self, name: &Name) -> Verdict {
        let verdicts = self.segments(name).into_iter();
        let verdicts = verdicts.map(|ports| self.evaluate_name(name, ports.sample()));
        let rank = |verdict: &Verdict| {
            (verdict.is_allowed(), matches!(verdict.rule(), Rule::AllowOut(_) | Rule::DenyOut(_)))
        };
        // There is at least one segment.
        verdicts.max_by_key(rank).unwrap_or_else(|| Verdict::deny(Rule::Default))
    }

    /// Whether [`Self::evaluate_resolved`] allows the address that `name` resolved to on at least
    /// one port.
    #[must_use]
    pub fn may_resolve_to(&self, name: &Name, address: IpAddr) -> bool {
        let of_name = self.allow.ports_of_name(name).chain(self.deny.ports_of_name(name));
        let of_address = [&self.allow, &self.deny].map(|list| list.ports_of_address(address));
        let segments = Ports::segments(of_name.chain(of_address.into_iter().flatten()));
        let mut samples = segments.iter().map(Ports::sample);
        samples.any(|port| self.evaluate_resolved(name, address, port).is_allowed())
    }

    /// The entry of `allow_out` that allows the sandbox to query the resolver at this address
    /// instead of the configured one.
    #[must_use]
    pub fn allowed_resolver(&self, address: IpAddr) -> Option<Rule> {
        match self.evaluate_address(address, Some(DNS_PORT)) {
            Verdict::Allow(permit) => {
                Some(permit.rule().clone()).filter(|rule| matches!(rule, Rule::AllowOut(_)))
            }
            Verdict::Deny(_) => None,
        }
    }

    /// The action for a name. `unlisted` is the action if no list matches the name.
    fn query_action(&self, name: &Name, unlisted: &QueryAction) -> QueryAction {
        let segments = self.segments(name);
        let actions = segments.iter().map(|ports| {
            let listed = self.match_name_in_lists(name, ports.sample());
            listed.unwrap_or_else(|| unlisted.clone())
        });
        // There is at least one segment.
        actions.max_by_key(QueryAction::rank).unwrap_or(QueryAction::Deny(Rule::Default))
    }

    /// The action by `allow_out` and `deny_out`, if one of them matches the name on the port.
    fn match_name_in_lists(&self, name: &Name, port: Option<u16>) -> Option<QueryAction> {
        let allow = || {
            let entry = self.allow.match_name(name, port)?;
            Some(match entry.target {
                _ if self.internet => QueryAction::Forward,
                Target::Domain(DomainPattern::Exact(_)) => QueryAction::Virtual,
                _ => QueryAction::VirtualWildcard,
            })
        };
        let deny = || {
            let entry = self.deny.match_name(name, port)?;
            Some(QueryAction::Deny(Rule::DenyOut(entry)))
        };
        match self.order {
            RuleOrder::AllowFirst => allow().or_else(deny),
            RuleOrder::DenyFirst => deny().or_else(allow),
        }
    }
}
