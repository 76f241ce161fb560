//! A compiled policy, and the decision function.
//!
//! A `port` is the destination port of TCP or UDP, or `None` for traffic without ports (ICMP).

use std::net::IpAddr;

use ipnet::IpNet;

use super::denied_addresses::DeniedAddress;
use super::entries::Entries;
use super::facts::{ConnectionFacts, Destination, ShownName, VirtualMeaning};
use super::global;
use super::guardrail;
use super::name::Name;
use super::network_policy::NetworkPolicy;
use super::operator::{OperatorSettings, RuleOrder};
use super::ports::Ports;
use super::ranges::Ranges;
use super::rule::Rule;
use super::verdict::{Route, Verdict};

/// An owner's policy, compiled together with the operator's settings.
#[derive(Clone, Debug)]
pub struct Policy {
    pub(super) internet: bool,
    pub(super) order: RuleOrder,
    pub(super) guardrails: Ranges<IpNet>,
    pub(super) allow: Entries,
    pub(super) deny: Entries,
    /// The known addresses of names that `deny` denies. They apply to connections that show no
    /// name.
    pub(super) denied_addresses: Ranges<DeniedAddress>,
    /// Separate from `global` because these ranges take precedence even over longer prefixes of
    /// `global`.
    pub(super) also_global: Ranges<()>,
    pub(super) global: Ranges<bool>,
}

/// What a connection shows about its name.
#[derive(Clone, Copy)]
enum Shown<'a> {
    Name(&'a Name),
    /// No name. The connection may be for any name that has the address.
    Nothing,
    /// A name that the policy has already allowed.
    Allowed,
}

impl Policy {
    /// Compiles an owner's policy and the operator's settings.
    #[must_use]
    pub fn new(network: &NetworkPolicy, operator: &OperatorSettings) -> Self {
        let guardrails = guardrail::FIXED.into_iter().chain(operator.protected.iter().copied());
        Self {
            internet: network.allow_internet_access,
            order: operator.rule_order,
            guardrails: Ranges::new(guardrails.map(|range| (range, range))),
            allow: Entries::new(&network.allow_out),
            deny: Entries::new(&network.deny_out),
            denied_addresses: Ranges::new([]),
            also_global: Ranges::new(operator.also_global.iter().map(|range| (*range, ()))),
            global: Ranges::new(global::TABLE),
        }
    }

    /// Decides about a connection or a request. No other function makes this decision.
    ///
    /// The policy must allow each shown name separately, so an allowed name never makes up for a
    /// denied one.
    pub fn decide(&self, facts: &ConnectionFacts<'_>) -> Verdict {
        let port = facts.port;
        let address = match facts.destination {
            Destination::Address(address) if !self.needs_names(*address, port) => {
                return self.evaluate_address(*address, port);
            }
            Destination::Address(address) => Some(*address),
            Destination::Virtual(_) => None,
        };
        let virtual_name = match facts.destination {
            Destination::Virtual(VirtualMeaning::Name(name)) => ShownName::Name(name.clone()),
            _ => ShownName::Absent,
        };
        let shown_names = [
            (&virtual_name, Rule::NoName),
            (&facts.sni, Rule::InvalidSni),
            (&facts.host, Rule::InvalidHost),
        ];
        let mut allowed: Option<Verdict> = None;
        for (shown, invalid_name_rule) in shown_names {
            let verdict = match shown {
                ShownName::Absent => continue,
                ShownName::Address(literal) => {
                    match (self.evaluate_address(*literal, port), address) {
                        (Verdict::Deny(denial), _) => Verdict::Deny(denial),
                        // An address as SNI or Host allows nothing that the destination address
                        // does not allow.
                        (Verdict::Allow(_), Some(address)) => self.evaluate_address(address, port),
                        (Verdict::Allow(_), None) => Verdict::deny(invalid_name_rule),
                    }
                }
                ShownName::Name(name) => self.evaluate(address, port, Shown::Name(name)),
                ShownName::Unparsable => Verdict::deny(invalid_name_rule),
            };
            match &verdict {
                Verdict::Deny(_) => return verdict,
                // A permit by name takes precedence over a permit for the original address. Of
                // several permits by name, the first one is used: virtual address, SNI, Host.
                Verdict::Allow(permit) => {
                    let by_name = matches!(permit.route(), Route::ByName(_));
                    let has_permit_by_name = allowed.as_ref().is_some_and(Verdict::is_by_name);
                    if allowed.is_none() || (by_name && !has_permit_by_name) {
                        allowed = Some(verdict);
                    }
                }
            }
        }
        allowed.unwrap_or_else(|| match facts.destination {
            Destination::Virtual(_) => Verdict::deny(Rule::NoName),
            Destination::Address(address) => self.evaluate_address(*address, port),
        })
    }

    /// Whether a connection with these facts has different verdicts on different ports.
    #[must_use]
    pub fn depends_on_port(&self, facts: &ConnectionFacts<'_>) -> bool {
        let entries = self.allow.all_ports().chain(self.deny.all_ports());
        let verdict = |port| self.decide(&ConnectionFacts { port, ..facts.clone() }).is_allowed();
        let samples: Vec<_> = Ports::segments(entries).iter().map(Ports::sample).collect();
        samples.iter().any(|port| verdict(*port) != verdict(None))
    }

    /// Evaluates an address alone, as for a packet that shows no name.
    pub fn evaluate_address(&self, address: IpAddr, port: Option<u16>) -> Verdict {
        self.evaluate(Some(address), port, Shown::Nothing)
    }

    /// Evaluates the address of a live connection whose names the policy has already allowed.
    pub fn evaluate_live_address(&self, address: IpAddr, port: Option<u16>) -> Verdict {
        self.evaluate(Some(address), port, Shown::Allowed)
    }

    /// Whether SNI or Host can change the verdict about this address and port. If they can't, the
    /// connection does not have to wait for them.
    #[must_use]
    pub fn needs_names(&self, address: IpAddr, port: Option<u16>) -> bool {
        if self.guardrails.get(address).is_some() {
            return false;
        }
        let in_allow_out = self.allow.match_as_allow(address, port).is_some();
        let in_deny_out = self.deny.match_as_deny(address, port).is_some();
        self.relevant_names(in_allow_out, in_deny_out).any(|list| list.name_ports().contains(port))
    }

    /// The lists whose names can change the verdict about an address that no guardrail contains.
    /// `in_allow_out` and `in_deny_out` state whether these lists contain the address.
    fn relevant_names(
        &self,
        in_allow_out: bool,
        in_deny_out: bool,
    ) -> impl Iterator<Item = &Entries> {
        let (allow, deny) = match self.order {
            RuleOrder::AllowFirst => (!in_allow_out, !in_allow_out && !in_deny_out),
            RuleOrder::DenyFirst => (!in_deny_out && !in_allow_out, !in_deny_out),
        };
        allow.then_some(&self.allow).into_iter().chain(deny.then_some(&self.deny))
    }

    /// The ports on which [`Self::needs_names`] is true for an address that no guardrail contains.
    pub(super) fn ports_with_names(&self, in_allow_out: bool, in_deny_out: bool) -> Ports {
        let lists = self.relevant_names(in_allow_out, in_deny_out);
        lists.fold(Ports::none(), |ports, list| ports.union(list.name_ports()))
    }

    /// The guardrail that contains the address, if any.
    #[must_use]
    pub fn guardrail(&self, address: IpAddr) -> Option<Rule> {
        self.guardrails.get(address).map(|range| Rule::Guardrail(*range))
    }

    /// Whether `allow_out` or `deny_out` has an entry that is a name.
    #[must_use]
    pub fn has_domains(&self) -> bool {
        [&self.allow, &self.deny].iter().any(|list| !list.name_ports().is_empty())
    }

    /// Evaluates a name that Envoy will resolve and connect to, before its addresses are known.
    pub fn evaluate_name(&self, name: &Name, port: Option<u16>) -> Verdict {
        self.evaluate(None, port, Shown::Name(name))
    }

    /// Divides everything into sets of ports on which all verdicts about the name are the same.
    pub(super) fn segments(&self, name: &Name) -> Vec<Ports> {
        Ports::segments(self.allow.ports_of_name(name).chain(self.deny.ports_of_name(name)))
    }

    /// Evaluates an address that `name` resolved to. It must pass the guardrails, and be globally
    /// routable unless an address entry of `allow_out` matches it.
    pub fn evaluate_resolved(&self, name: &Name, address: IpAddr, port: Option<u16>) -> Verdict {
        match self.evaluate(Some(address), port, Shown::Name(name)) {
            Verdict::Allow(permit)
                if matches!(permit.route(), Route::ByName(_)) && !self.is_global(address) =>
            {
                Verdict::deny(Rule::NotGlobal)
            }
            verdict => verdict,
        }
    }

    /// Whether an address is globally routable, by the operator's settings and IANA's registries.
    #[must_use]
    pub fn is_global(&self, address: IpAddr) -> bool {
        self.also_global.find_within_embedding(address, |()| true).is_some()
            || self.global.find_within_embedding(address, |_| true).copied().unwrap_or(false)
    }

    /// Evaluates the five rules for an address (`None` if it is virtual) and at most one name.
    fn evaluate(&self, address: Option<IpAddr>, port: Option<u16>, shown: Shown<'_>) -> Verdict {
        let name = shown.name();
        if let Some(guardrail) = address.and_then(|address| self.guardrail(address)) {
            return Verdict::deny(guardrail);
        }
        let listed = match self.order {
            RuleOrder::AllowFirst => {
                let allowed = self.match_allow(address, port, name);
                allowed.or_else(|| self.match_deny(address, port, shown))
            }
            RuleOrder::DenyFirst => {
                let denied = self.match_deny(address, port, shown);
                denied.or_else(|| self.match_allow(address, port, name))
            }
        };
        listed.unwrap_or_else(|| self.evaluate_default(address, name))
    }

    fn match_allow(
        &self,
        address: Option<IpAddr>,
        port: Option<u16>,
        name: Option<&Name>,
    ) -> Option<Verdict> {
        let by_address = address.and_then(|address| {
            let entry = self.allow.match_as_allow(address, port)?;
            Some(Verdict::allow(Route::original(address), Rule::AllowOut(entry.clone())))
        });
        by_address.or_else(|| {
            let name = name?;
            let entry = self.allow.match_name(name, port)?;
            Some(Verdict::allow(Route::ByName(name.clone()), Rule::AllowOut(entry)))
        })
    }

    fn match_deny(
        &self,
        address: Option<IpAddr>,
        port: Option<u16>,
        shown: Shown<'_>,
    ) -> Option<Verdict> {
        let by_address = address.and_then(|address| self.deny.match_as_deny(address, port));
        let by_name = || self.deny.match_name(shown.name()?, port);
        let listed = by_address.cloned().or_else(by_name).map(Rule::DenyOut);
        let rule = listed.or_else(|| match shown {
            Shown::Nothing => {
                let known = self.denied_addresses.find(address?, |at| at.ports.contains(port));
                known.map(|at| at.rule.clone())
            }
            Shown::Name(_) | Shown::Allowed => None,
        });
        rule.map(Verdict::deny)
    }

    /// Rules 4 and 5. If the address is virtual, the addresses that its name resolves to are
    /// evaluated when Envoy connects.
    fn evaluate_default(&self, address: Option<IpAddr>, name: Option<&Name>) -> Verdict {
        let route = match (address, name) {
            _ if !self.internet => return Verdict::deny(Rule::Default),
            (Some(address), _) if self.is_global(address) => Route::original(address),
            (Some(_), _) => return Verdict::deny(Rule::NotGlobal),
            (None, Some(name)) => Route::ByName(name.clone()),
            (None, None) => return Verdict::deny(Rule::NoName),
        };
        Verdict::allow(route, Rule::AllowInternetAccess)
    }
}

impl<'a> Shown<'a> {
    fn name(self) -> Option<&'a Name> {
        match self {
            Self::Name(name) => Some(name),
            Self::Nothing | Self::Allowed => None,
        }
    }
}

impl Verdict {
    fn is_by_name(&self) -> bool {
        matches!(self, Self::Allow(permit) if matches!(permit.route(), Route::ByName(_)))
    }
}
