//! The same policy for what has no names (UDP, ICMP): a list for nftables, which first match decides.
//!
//! For each address the list says what [`Policy::decide`] says when no name is in sight.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::embedded::{EMBEDDINGS, Embedding};
use super::entry::Entry;
use super::operator::RuleOrder;
use super::policy::Policy;
use super::rule::Rule;

/// What to do with a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// Let it pass.
    Accept,
    /// Refuse it, audibly.
    Reject,
}

/// One line of the list.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AddressRule {
    /// Destinations that it is about.
    pub range: IpNet,
    /// What to do with packets to them.
    pub action: Action,
    /// Whether names can change that: [`Policy::needs_names`] of every address that gets here.
    pub needs_names: bool,
    /// Why.
    pub rule: Rule,
}

/// The list. The first rule whose range has an address decides; every address is in one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AddressRules {
    rules: Vec<AddressRule>,
}

impl AddressRules {
    /// All rules, in the order in which they must be tried.
    #[must_use]
    pub fn rules(&self) -> &[AddressRule] {
        &self.rules
    }

    /// The rule that decides about an address. None never happens; it would mean to reject.
    #[must_use]
    pub fn first_match(&self, address: IpAddr) -> Option<&AddressRule> {
        self.rules.iter().find(|rule| rule.range.contains(&address))
    }
}

impl Policy {
    /// What the policy says of addresses alone.
    #[must_use]
    pub fn address_rules(&self) -> AddressRules {
        self.rules(Denied::ByAddress, self.internet, &Rule::AllowInternetAccess)
    }

    /// What Envoy may dial: by address where [`Self::judge_place`] allows, and by name what
    /// [`Self::judge_found`] allows for some name. Envoy judges names; this holds where a name is
    /// bound to another address between its resolution and the dialling.
    #[must_use]
    pub fn dial_rules(&self) -> AddressRules {
        // A name may be in sight where another that has the same address is denied.
        if !self.allow.has_names() {
            return self.rules(Denied::ByRange, self.internet, &Rule::AllowInternetAccess);
        }
        // An allowed name may be at a denied address.
        let denied = match self.order {
            RuleOrder::AllowFirst => Denied::Nothing,
            RuleOrder::DenyFirst => Denied::ByRange,
        };
        self.rules(denied, true, &Rule::AllowedName)
    }

    /// `globals`: whether what no list has is accepted where it is globally routable, by `rule`.
    fn rules(&self, denied: Denied, globals: bool, rule: &Rule) -> AddressRules {
        let mut rules = Vec::new();
        let mut seen = BTreeSet::new();
        for region in Region::all() {
            let mut step = |range: Option<IpNet>, action, needs_names, rule: Rule| {
                // A range that was there has decided.
                if let Some(range) = range.filter(|range| seen.insert(*range)) {
                    rules.push(AddressRule { range, action, needs_names, rule });
                }
            };
            for (range, guardrail) in self.guardrails.longest_first() {
                let rule = Rule::Guardrail(*guardrail);
                step(region.clip(range), Action::Reject, false, rule);
            }
            let allow_comes = match self.order {
                RuleOrder::AllowFirst => [true, false],
                RuleOrder::DenyFirst => [false, true],
            };
            for allows in allow_comes {
                if allows {
                    let needs_names = self.names_matter(true, false);
                    for (range, entry) in self.allow.ranges.longest_first() {
                        let rule = Rule::AllowOut(Entry::Address(*entry));
                        step(region.hold(range), Action::Accept, needs_names, rule);
                    }
                    continue;
                }
                if denied != Denied::Nothing {
                    let needs_names = self.names_matter(false, true);
                    for (range, entry) in self.deny.ranges.longest_first() {
                        let rule = Rule::DenyOut(Entry::Address(*entry));
                        step(region.clip(range), Action::Reject, needs_names, rule);
                    }
                }
                if denied == Denied::ByAddress {
                    let needs_names = self.names_matter(false, false);
                    for (range, rule) in self.unnamed.longest_first() {
                        step(region.hold(range), Action::Reject, needs_names, rule.clone());
                    }
                }
            }
            let needs_names = self.names_matter(false, false);
            if globals {
                for (range, ()) in self.also_global.longest_first() {
                    step(region.hold(range), Action::Accept, needs_names, rule.clone());
                }
                for (range, is_global) in self.global.longest_first() {
                    let (action, rule) = match is_global {
                        true => (Action::Accept, rule.clone()),
                        false => (Action::Reject, Rule::NotGlobal),
                    };
                    step(region.hold(range), action, needs_names, rule);
                }
            } else {
                for range in region.ranges() {
                    step(Some(range), Action::Reject, needs_names, Rule::Default);
                }
            }
        }
        AddressRules { rules }
    }
}

/// What of `deny_out` is in a list.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Denied {
    /// Ranges, and the addresses that denied names are known to have.
    ByAddress,
    /// Ranges.
    ByRange,
    /// Nothing.
    Nothing,
}

/// A part of the address space in which the rules are complete, so that none before another matters.
#[derive(Clone, Copy)]
enum Region {
    /// IPv6 addresses that carry an IPv4 address.
    Embedded(Embedding),
    /// All others: tried last.
    Rest,
}

impl Region {
    fn all() -> impl Iterator<Item = Self> {
        EMBEDDINGS.into_iter().map(Self::Embedded).chain([Self::Rest])
    }

    fn ranges(self) -> Vec<IpNet> {
        match self {
            Self::Embedded(embedding) => vec![embedding.range()],
            Self::Rest => vec![Ipv4Net::default().into(), Ipv6Net::default().into()],
        }
    }

    /// The part of a range that is in here.
    fn clip(self, range: IpNet) -> Option<IpNet> {
        match self {
            Self::Embedded(embedding) if range.contains(&embedding.range()) => {
                Some(embedding.range())
            }
            _ => self.hold(range),
        }
    }

    /// A range, if all of it is in here: as [`super::ranges::Ranges::get_inside`].
    fn hold(self, range: IpNet) -> Option<IpNet> {
        let is_here = match self {
            Self::Embedded(embedding) => embedding.range().contains(&range),
            Self::Rest => !EMBEDDINGS.iter().any(|other| other.range().contains(&range)),
        };
        is_here.then_some(range)
    }
}
