//! A policy that has been compiled, and the one decision that rests on it.

use std::net::IpAddr;

use ipnet::IpNet;

use super::entries::Entries;
use super::facts::{Destination, Facts, NameFact, Virtual};
use super::global;
use super::guardrail;
use super::name::Name;
use super::network_policy::NetworkPolicy;
use super::operator::{Operator, RuleOrder};
use super::ranges::Ranges;
use super::rule::Rule;
use super::verdict::{Route, Verdict};

/// An owner's policy under an operator's settings.
#[derive(Clone, Debug)]
pub struct Policy {
    pub(super) internet: bool,
    pub(super) order: RuleOrder,
    pub(super) guardrails: Ranges<IpNet>,
    pub(super) allow: Entries,
    pub(super) deny: Entries,
    /// Addresses that names which `deny` has are known to have, for what shows no name.
    pub(super) unnamed: Ranges<Rule>,
    /// Whatever `global` says, which holds longer prefixes than the operator may write.
    pub(super) also_global: Ranges<()>,
    pub(super) global: Ranges<bool>,
}

/// What a connection shows of the name that it is for.
#[derive(Clone, Copy)]
enum Shown<'a> {
    Name(&'a Name),
    /// Nothing: it may be for any name that has the address.
    Nothing,
    /// A name that has been judged.
    Judged,
}

/// The first judgement of two that says something.
type Step = Option<Verdict>;

impl Policy {
    /// Compiles an owner's policy.
    #[must_use]
    pub fn new(network: &NetworkPolicy, operator: &Operator) -> Self {
        let guardrails = guardrail::FIXED.into_iter().chain(operator.protected.iter().copied());
        Self {
            internet: network.allow_internet_access,
            order: operator.rule_order,
            guardrails: Ranges::new(guardrails.map(|range| (range, range))),
            allow: Entries::new(&network.allow_out),
            deny: Entries::new(&network.deny_out),
            unnamed: Ranges::new([]),
            also_global: Ranges::new(operator.also_global.iter().map(|range| (*range, ()))),
            global: Ranges::new(global::TABLE),
        }
    }

    /// Decides about a connection or a request. The only place that does.
    ///
    /// Each name that is in sight must pass by itself, so that a good name covers for no other.
    pub fn decide(&self, facts: &Facts<'_>) -> Verdict {
        let address = match facts.destination {
            Destination::Address(address) if !self.needs_names(*address) => {
                return self.judge_address(*address);
            }
            Destination::Address(address) => Some(*address),
            Destination::Virtual(_) => None,
        };
        let own = match facts.destination {
            Destination::Virtual(Virtual::Name(name)) => NameFact::Name(name.clone()),
            _ => NameFact::Absent,
        };
        let in_sight = [
            (&own, Rule::NoName),
            (&facts.sni, Rule::SniNotUnderstood),
            (&facts.host, Rule::HostNotUnderstood),
        ];
        let mut allowed: Option<Verdict> = None;
        for (fact, not_understood) in in_sight {
            let verdict = match fact {
                NameFact::Absent => continue,
                NameFact::Address(literal) => match (self.judge_address(*literal), address) {
                    (Verdict::Deny(denial), _) => Verdict::Deny(denial),
                    // It allows nothing that the destination does not allow by itself.
                    (Verdict::Allow(_), Some(address)) => self.judge_address(address),
                    (Verdict::Allow(_), None) => Verdict::deny(not_understood),
                },
                NameFact::Name(name) => self.judge(address, Shown::Name(name)),
                NameFact::Unparsable => Verdict::deny(not_understood),
            };
            match &verdict {
                Verdict::Deny(_) => return verdict,
                // The name that the connection was made with comes first, then its handshake's.
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
            Destination::Address(address) => self.judge_address(*address),
        })
    }

    /// Judges an address by itself, as for a packet that shows no name.
    pub fn judge_address(&self, address: IpAddr) -> Verdict {
        self.judge(Some(address), Shown::Nothing)
    }

    /// Judges the address that a connection is at, whose names pass.
    pub fn judge_place(&self, address: IpAddr) -> Verdict {
        self.judge(Some(address), Shown::Judged)
    }

    /// Whether SNI or Host can change the verdict about this address. Where they can't, nothing
    /// has to wait for them.
    #[must_use]
    pub fn needs_names(&self, address: IpAddr) -> bool {
        if self.guardrails.get(address).is_some() {
            return false;
        }
        let allowed = self.allow.has_address(address).is_some();
        let denied = self.deny.denies_address(address).is_some();
        self.names_matter(allowed, denied)
    }

    /// The same for an address that no guardrail has, by which lists have it.
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

    /// Whether any rule is about names.
    #[must_use]
    pub fn names_a_domain(&self) -> bool {
        self.allow.has_names() || self.deny.has_names()
    }

    /// Judges a name that Envoy is to resolve and dial, before the addresses are known.
    pub fn judge_dial(&self, name: &Name) -> Verdict {
        self.judge(None, Shown::Name(name))
    }

    /// Judges an address that a name which Envoy dials was resolved to: "what it finds is judged by
    /// 1 again and must be globally routable unless `allow_out` has it by address".
    pub fn judge_found(&self, name: &Name, address: IpAddr) -> Verdict {
        match self.judge(Some(address), Shown::Name(name)) {
            Verdict::Allow(permit)
                if matches!(permit.route(), Route::ByName(_)) && !self.is_global(address) =>
            {
                Verdict::deny(Rule::NotGlobal)
            }
            verdict => verdict,
        }
    }

    /// Whether an address is of the internet.
    #[must_use]
    pub fn is_global(&self, address: IpAddr) -> bool {
        self.also_global.get_inside(address).is_some()
            || self.global.get_inside(address).copied().unwrap_or(false)
    }

    /// The five steps, for an address (none: it is virtual) and at most one name.
    fn judge(&self, address: Option<IpAddr>, shown: Shown<'_>) -> Verdict {
        let name = shown.name();
        let guardrail = address.and_then(|address| self.guardrails.get(address));
        if let Some(range) = guardrail {
            return Verdict::deny(Rule::Guardrail(*range));
        }
        let listed = match self.order {
            RuleOrder::AllowFirst => {
                self.listed_allow(address, name).or_else(|| self.listed_deny(address, shown))
            }
            RuleOrder::DenyFirst => {
                self.listed_deny(address, shown).or_else(|| self.listed_allow(address, name))
            }
        };
        listed.unwrap_or_else(|| self.judge_unlisted(address, name))
    }

    fn listed_allow(&self, address: Option<IpAddr>, name: Option<&Name>) -> Step {
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

    fn listed_deny(&self, address: Option<IpAddr>, shown: Shown<'_>) -> Step {
        let by_address = address.and_then(|address| self.deny.denies_address(address));
        let listed = by_address.or_else(|| self.deny.has_name(shown.name()?)).map(Rule::DenyOut);
        let rule = listed.or_else(|| match shown {
            Shown::Nothing => self.unnamed.get(address?).cloned(),
            Shown::Name(_) | Shown::Judged => None,
        });
        rule.map(Verdict::deny)
    }

    /// Steps 4 and 5. What a virtual address's name resolves to is judged when it is dialled.
    fn judge_unlisted(&self, address: Option<IpAddr>, name: Option<&Name>) -> Verdict {
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
            Self::Nothing | Self::Judged => None,
        }
    }
}

impl Verdict {
    fn is_by_name(&self) -> bool {
        matches!(self, Self::Allow(permit) if matches!(permit.route(), Route::ByName(_)))
    }
}
