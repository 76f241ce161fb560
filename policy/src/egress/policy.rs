//! A compiled policy, and the decision function.

use std::net::IpAddr;

use ipnet::IpNet;

use super::entries::Entries;
use super::facts::{ConnectionFacts, Destination, NameFact, Virtual};
use super::global;
use super::guardrail;
use super::name::Name;
use super::network_policy::NetworkPolicy;
use super::operator::{Operator, RuleOrder};
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
    pub fn new(network: &NetworkPolicy, operator: &Operator) -> Self {
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
        let own = match facts.destination {
            Destination::Virtual(Virtual::Name(name)) => NameFact::Name(name.clone()),
            _ => NameFact::Absent,
        };
        let shown_names = [
            (&own, Rule::NoName),
            (&facts.sni, Rule::SniNotUnderstood),
            (&facts.host, Rule::HostNotUnderstood),
        ];
        let mut allowed: Option<Verdict> = None;
        for (fact, not_understood) in shown_names {
            let verdict = match fact {
                NameFact::Absent => continue,
                NameFact::Address(literal) => match (self.evaluate_address(*literal), address) {
                    (Verdict::Deny(denial), _) => Verdict::Deny(denial),
                    // An address as SNI or Host allows nothing that the destination address does
                    // not allow.
                    (Verdict::Allow(_), Some(address)) => self.evaluate_address(address),
                    (Verdict::Allow(_), None) => Verdict::deny(not_understood),
                },
                NameFact::Name(name) => self.evaluate(address, Shown::Name(name)),
                NameFact::Unparsable => Verdict::deny(not_understood),
            };
            match &verdict {
                Verdict::Deny(_) => return verdict,
                // A permit by name takes precedence over a permit for the original address. Of
                // several permits by name, the first one is used: virtual address, SNI, Host.
                Verdict::Allow(permit) => {
                    let by_name = matches!(permit.route(), Route::ByName(_));
                    let kept = allowed.as_ref().is_some_and(Verdict::is_by_name);
                    if allowed.is_none() || (by_name && !kept) {
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
        let allowed = self.allow.has_address(address).is_some();
        let denied = self.deny.denies_address(address).is_some();
        self.names_matter(allowed, denied)
    }

    /// [`Self::needs_names`] for an address that no guardrail contains. `allowed` and `denied` say
    /// whether `allow_out` and `deny_out` contain the address.
    pub(super) fn names_matter(&self, allowed: bool, denied: bool) -> bool {
        let (allows_names, denies_names) = (self.allow.has_names(), self.deny.has_names());
        match self.order {
            RuleOrder::AllowFirst if allowed => false,
            RuleOrder::AllowFirst if denied => allows_names,
            RuleOrder::DenyFirst if denied => false,
            RuleOrder::DenyFirst if allowed => denies_names,
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

    /// Evaluates an address that `name` resolved to, for a connection that Envoy opens by name. The address must be
    /// globally routable, unless `allow_out` contains it.
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
        self.also_global.get_inside(address).is_some()
            || self.global.get_inside(address).copied().unwrap_or(false)
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
            let entry = self.allow.has_address(address)?;
            Some(Verdict::allow(Route::original(address), Rule::AllowOut(entry)))
        });
        by_address.or_else(|| {
            let name = name?;
            let entry = self.allow.has_name(name)?;
            Some(Verdict::allow(Route::ByName(name.clone()), Rule::AllowOut(entry)))
        })
    }

    fn match_deny(&self, address: Option<IpAddr>, shown: Shown<'_>) -> Option<Verdict> {
        let by_address = address.and_then(|address| self.deny.denies_address(address));
        let listed = by_address.or_else(|| self.deny.has_name(shown.name()?)).map(Rule::DenyOut);
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
