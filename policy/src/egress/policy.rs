//! A compiled policy, and the decision function.

use std::net::IpAddr;

use ipnet::IpNet;

use super::entries::Entries;
use super::facts::{ConnectionFacts, Destination, ShownName, VirtualMeaning};
use super::global;
use super::guardrail;
use super::name::Name;
use super::network_policy::NetworkPolicy;
use super::operator::{OperatorSettings, RuleOrder};
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
    pub(super) denied_addresses: Ranges<Rule>,
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
        let address = match facts.destination {
            Destination::Address(address) if !self.needs_names(*address) => {
                return self.evaluate_address(*address);
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
                ShownName::Address(literal) => match (self.evaluate_address(*literal), address) {
                    (Verdict::Deny(denial), _) => Verdict::Deny(denial),
                    // An address as SNI or Host allows nothing that the destination address does
                    // not allow.
                    (Verdict::Allow(_), Some(address)) => self.evaluate_address(address),
                    (Verdict::Allow(_), None) => Verdict::deny(invalid_name_rule),
                },
                ShownName::Name(name) => self.evaluate(address, Shown::Name(name)),
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
            Destination::Address(address) => self.evaluate_address(*address),
        })
    }

    /// Evaluates an address alone, as for a packet that shows no name.
    pub fn evaluate_address(&self, address: IpAddr) -> Verdict {
        self.evaluate(Some(address), Shown::Nothing)
    }

    /// Evaluates the address of a live connection whose names the policy has already allowed.
    pub fn evaluate_live_address(&self, address: IpAddr) -> Verdict {
        self.evaluate(Some(address), Shown::Allowed)
    }

    /// Whether SNI or Host can change the verdict about this address. If they can't, the connection
    /// does not have to wait for them.
    #[must_use]
    pub fn needs_names(&self, address: IpAddr) -> bool {
        if self.guardrails.get(address).is_some() {
            return false;
        }
        let in_allow_out = self.allow.match_as_allow(address).is_some();
        let in_deny_out = self.deny.match_as_deny(address).is_some();
        self.names_matter(in_allow_out, in_deny_out)
    }

    /// [`Self::needs_names`] for an address that no guardrail contains. `in_allow_out`
    /// and `in_deny_out` state whether these lists contain the address.
    pub(super) fn names_matter(&self, in_allow_out: bool, in_deny_out: bool) -> bool {
        let (allows_names, denies_names) = (self.allow.has_names(), self.deny.has_names());
        match self.order {
            RuleOrder::AllowFirst if in_allow_out => false,
            RuleOrder::AllowFirst if in_deny_out => allows_names,
            RuleOrder::DenyFirst if in_deny_out => false,
            RuleOrder::DenyFirst if in_allow_out => denies_names,
            _ => allows_names || denies_names,
        }
    }

    /// Whether `allow_out` or `deny_out` has an entry that is a name.
    #[must_use]
    pub fn has_domains(&self) -> bool {
        self.allow.has_names() || self.deny.has_names()
    }

    /// Evaluates a name that Envoy will resolve and connect to, before its addresses are known.
    pub fn evaluate_name(&self, name: &Name) -> Verdict {
        self.evaluate(None, Shown::Name(name))
    }

    /// Evaluates an address that `name` resolved to. It must pass the guardrails, and be globally
    /// routable unless an address entry of `allow_out` matches it.
    pub fn evaluate_resolved(&self, name: &Name, address: IpAddr) -> Verdict {
        match self.evaluate(Some(address), Shown::Name(name)) {
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
        self.also_global.get_within_embedding(address).is_some()
            || self.global.get_within_embedding(address).copied().unwrap_or(false)
    }

    /// Evaluates the five rules for an address (`None` if it is virtual) and at most one name.
    fn evaluate(&self, address: Option<IpAddr>, shown: Shown<'_>) -> Verdict {
        let name = shown.name();
        let guardrail = address.and_then(|address| self.guardrails.get(address));
        if let Some(range) = guardrail {
            return Verdict::deny(Rule::Guardrail(*range));
        }
        let listed = match self.order {
            RuleOrder::AllowFirst => {
                self.match_allow(address, name).or_else(|| self.match_deny(address, shown))
            }
            RuleOrder::DenyFirst => {
                self.match_deny(address, shown).or_else(|| self.match_allow(address, name))
            }
        };
        listed.unwrap_or_else(|| self.evaluate_default(address, name))
    }

    fn match_allow(&self, address: Option<IpAddr>, name: Option<&Name>) -> Option<Verdict> {
        let by_address = address.and_then(|address| {
            let entry = self.allow.match_as_allow(address)?;
            Some(Verdict::allow(Route::original(address), Rule::AllowOut(entry)))
        });
        by_address.or_else(|| {
            let name = name?;
            let entry = self.allow.match_name(name)?;
            Some(Verdict::allow(Route::ByName(name.clone()), Rule::AllowOut(entry)))
        })
    }

    fn match_deny(&self, address: Option<IpAddr>, shown: Shown<'_>) -> Option<Verdict> {
        let by_address = address.and_then(|address| self.deny.match_as_deny(address));
        let listed = by_address.or_else(|| self.deny.match_name(shown.name()?)).map(Rule::DenyOut);
        let rule = listed.or_else(|| match shown {
            Shown::Nothing => self.denied_addresses.get(address?).cloned(),
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
