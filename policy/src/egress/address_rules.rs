//! The policy for traffic that shows no names (UDP, ICMP): an ordered list of rules for nftables.
//! The first rule that matches decides.
//!
//! For each address, the list agrees with [`Policy::decide`] for a connection that shows no name.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::embedded::{EMBEDDINGS, Embedding};
use super::entry::Entry;
use super::operator::RuleOrder;
use super::policy::Policy;
use super::rule::Rule;

/// The action for a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// Accept the packet.
    Accept,
    /// Reject the packet with an error to the sender.
    Reject,
}

/// One rule of the list.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AddressRule {
    /// The destinations that the rule matches.
    pub range: IpNet,
    /// The action for packets to these destinations.
    pub action: Action,
    /// Whether names can change the verdict: [`Policy::needs_names`] for every address that this
    /// rule decides about.
    pub needs_names: bool,
    /// The rule of the policy that this rule comes from.
    pub rule: Rule,
}

/// The list of rules. The first rule whose range contains an address decides about it. Every
/// address is in the range of at least one rule.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AddressRules {
    rules: Vec<AddressRule>,
}

impl AddressRules {
    /// All rules, in the order of evaluation.
    #[must_use]
    pub fn rules(&self) -> &[AddressRule] {
        &self.rules
    }

    /// The rule that decides about an address. It always exists; a caller must treat `None` as
    /// [`Action::Reject`].
    #[must_use]
    pub fn first_match(&self, address: IpAddr) -> Option<&AddressRule> {
        self.rules.iter().find(|rule| rule.range.contains(&address))
    }
}

impl Policy {
    /// The rules for traffic that shows no names.
    #[must_use]
    pub fn address_rules(&self) -> AddressRules {
        self.rules(DenyPart::RangesAndKnownAddresses, self.internet, &Rule::AllowInternetAccess)
    }

    /// The rules for Envoy's own connections. They accept an address that [`Self::evaluate_live_address`]
    /// allows, and an address that [`Self::evaluate_resolved`] allows for any name. Envoy evaluates the
    /// name. These rules apply in addition, for the case that a name resolves to another address
    /// after Envoy has evaluated it.
    #[must_use]
    pub fn upstream_address_rules(&self) -> AddressRules {
        // The addresses of denied names are not in this list: a connection to such an address may
        // show another name.
        if !self.allow.has_names() {
            return self.rules(DenyPart::Ranges, self.internet, &Rule::AllowInternetAccess);
        }
        // An allowed name may resolve to a denied address.
        let deny_part = match self.order {
            RuleOrder::AllowFirst => DenyPart::None,
            RuleOrder::DenyFirst => DenyPart::Ranges,
        };
        self.rules(deny_part, true, &Rule::AllowedName)
    }

    /// `allow_global` says whether globally routable addresses that no list contains are accepted;
    /// `global_rule` is the rule that accepts them.
    fn rules(&self, deny_part: DenyPart, allow_global: bool, global_rule: &Rule) -> AddressRules {
        let mut rules = Vec::new();
        let mut ranges = BTreeSet::new();
        for region in Region::all() {
            let mut push = |range: Option<IpNet>, action, needs_names, rule: Rule| {
                // A later rule with the same range has no effect.
                if let Some(range) = range.filter(|range| ranges.insert(*range)) {
                    rules.push(AddressRule { range, action, needs_names, rule });
                }
            };
            for (range, guardrail) in self.guardrails.longest_first() {
                let rule = Rule::Guardrail(*guardrail);
                push(region.clip(range), Action::Reject, false, rule);
            }
            let lists = match self.order {
                RuleOrder::AllowFirst => [true, false],
                RuleOrder::DenyFirst => [false, true],
            };
            for is_allow_list in lists {
                if is_allow_list {
                    let needs_names = self.names_matter(true, false);
                    for (range, entry) in self.allow.ranges.longest_first() {
                        let rule = Rule::AllowOut(Entry::Address(*entry));
                        push(region.if_contains(range), Action::Accept, needs_names, rule);
                    }
                    continue;
                }
                if deny_part != DenyPart::None {
                    let needs_names = self.names_matter(false, true);
                    for (range, entry) in self.deny.ranges.longest_first() {
                        let rule = Rule::DenyOut(Entry::Address(*entry));
                        push(region.clip(range), Action::Reject, needs_names, rule);
                    }
                }
                if deny_part == DenyPart::RangesAndKnownAddresses {
                    let needs_names = self.names_matter(false, false);
                    for (range, rule) in self.denied_addresses.longest_first() {
                        push(region.if_contains(range), Action::Reject, needs_names, rule.clone());
                    }
                }
            }
            let needs_names = self.names_matter(false, false);
            if allow_global {
                for (range, ()) in self.also_global.longest_first() {
                    push(
                        region.if_contains(range),
                        Action::Accept,
                        needs_names,
                        global_rule.clone(),
                    );
                }
                for (range, is_global) in self.global.longest_first() {
                    let (action, rule) = match is_global {
                        true => (Action::Accept, global_rule.clone()),
                        false => (Action::Reject, Rule::NotGlobal),
                    };
                    push(region.if_contains(range), action, needs_names, rule);
                }
            } else {
                for range in region.ranges() {
                    push(Some(range), Action::Reject, needs_names, Rule::Default);
                }
            }
        }
        AddressRules { rules }
    }
}

/// The part of `deny_out` that a list of rules contains.
#[derive(Clone, Copy, Eq, PartialEq)]
enum DenyPart {
    /// The ranges, and the known addresses of denied names.
    RangesAndKnownAddresses,
    /// The ranges.
    Ranges,
    /// Nothing.
    None,
}

/// A part of the address space. The rules of a region decide about every address in it, so the
/// rules of other regions don't matter for these addresses.
#[derive(Clone, Copy)]
enum Region {
    /// IPv6 addresses that embed an IPv4 address with this prefix.
    Embedded(Embedding),
    /// All other addresses. This region comes last.
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

    /// The part of the range that lies in this region.
    fn clip(self, range: IpNet) -> Option<IpNet> {
        match self {
            Self::Embedded(embedding) if range.contains(&embedding.range()) => {
                Some(embedding.range())
            }
            _ => self.if_contains(range),
        }
    }

    /// The range, if this region contains all of it. This corresponds to
    /// [`super::ranges::Ranges::get_within_embedding`].
    fn if_contains(self, range: IpNet) -> Option<IpNet> {
        let contains = match self {
            Self::Embedded(embedding) => embedding.range().contains(&range),
            Self::Rest => !EMBEDDINGS.iter().any(|other| other.range().contains(&range)),
        };
        contains.then_some(range)
    }
}
