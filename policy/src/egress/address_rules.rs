//! The policy for traffic that shows no names (UDP, ICMP): an ordered list of rules for nftables.
//! The first rule that matches decides.
//!
//! For each address and port, the list agrees with [`Policy::decide`] for a connection that shows no
//! name.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::embedded::{EMBEDDINGS, Embedding};
use super::operator::RuleOrder;
use super::policy::Policy;
use super::ports::Ports;
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
    /// The destination ports that the rule matches.
    pub ports: Ports,
    /// The action for packets to these destinations.
    pub action: Action,
    /// The ports on which names can change the verdict: those for which [`Policy::needs_names`] is
    /// true, for every address that this rule decides about. It may contain ports that the rule does
    /// not match.
    pub ports_with_names: Ports,
    /// The rule of the policy that this rule comes from.
    pub rule: Rule,
}

/// The list of rules. The first rule that matches an address and a port decides about them. At
/// least one rule does.
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

    /// The rule that decides about an address and a port (`None` for traffic without ports). It
    /// always exists; a caller must treat `None` as [`Action::Reject`].
    #[must_use]
    pub fn first_match(&self, address: IpAddr, port: Option<u16>) -> Option<&AddressRule> {
        self.rules.iter().find(|rule| rule.range.contains(&address) && rule.ports.contains(port))
    }
}

impl Policy {
    /// The rules for traffic that shows no names.
    #[must_use]
    pub fn address_rules(&self) -> AddressRules {
        self.rules(&Selection {
            denied: Ports::all(),
            known_addresses: true,
            global: if self.internet { Ports::all() } else { Ports::none() },
            global_rule: Rule::AllowInternetAccess,
        })
    }

    /// The rules for Envoy's own connections. They accept an address that [`Self::evaluate_live_address`]
    /// allows, and an address that [`Self::evaluate_resolved`] allows for any name. Envoy evaluates the
    /// name. These rules apply in addition, for the case that a name resolves to another address
    /// after Envoy has evaluated it.
    #[must_use]
    pub fn upstream_address_rules(&self) -> AddressRules {
        let by_name = self.allow.name_ports();
        let denied = match self.order {
            // An allowed name may resolve to a denied address.
            RuleOrder::AllowFirst => Ports::all().minus(by_name),
            RuleOrder::DenyFirst => Ports::all(),
        };
        self.rules(&Selection {
            denied,
            // A connection to a known address of a denied name may show another name.
            known_addresses: false,
            global: if self.internet { Ports::all() } else { by_name.clone() },
            global_rule: match by_name.is_empty() {
                true => Rule::AllowInternetAccess,
                false => Rule::AllowedName,
            },
        })
    }

    fn rules(&self, selection: &Selection) -> AddressRules {
        let mut list = List::default();
        for regions in Region::groups() {
            for region in &regions {
                self.push_guardrails(&mut list, *region);
            }
            let lists = match self.order {
                RuleOrder::AllowFirst => [true, false],
                RuleOrder::DenyFirst => [false, true],
            };
            for is_allow_list in lists {
                for region in &regions {
                    match is_allow_list {
                        true => self.push_allowed(&mut list, *region),
                        false => self.push_denied(&mut list, *region, selection),
                    }
                }
                for region in &regions {
                    if !is_allow_list && selection.known_addresses {
                        self.push_known(&mut list, *region);
                    }
                }
            }
            for region in &regions {
                self.push_default(&mut list, *region, selection);
            }
        }
        AddressRules { rules: list.rules }
    }

    fn push_guardrails(&self, list: &mut List, region: Region) {
        for (range, guardrail) in self.guardrails.longest_first() {
            let (range, rule) = (region.clip(range), Rule::Guardrail(*guardrail));
            list.push(range, &Ports::all(), Action::Reject, &Ports::none(), rule);
        }
    }

    fn push_allowed(&self, list: &mut List, region: Region) {
        let with_names = self.ports_with_names(true, false);
        for (range, entry) in self.allow.ranges.longest_first() {
            let (range, rule) = (region.if_contains(range), Rule::AllowOut(entry.clone()));
            list.push(range, &entry.ports.into(), Action::Accept, &with_names, rule);
        }
    }

    fn push_denied(&self, list: &mut List, region: Region, selection: &Selection) {
        let with_names = self.ports_with_names(false, true);
        for (range, entry) in self.deny.ranges.longest_first() {
            let ports = selection.denied.intersection(&entry.ports.into());
            let (range, rule) = (region.clip(range), Rule::DenyOut(entry.clone()));
            list.push(range, &ports, Action::Reject, &with_names, rule);
        }
    }

    /// The known addresses of denied names.
    fn push_known(&self, list: &mut List, region: Region) {
        let with_names = self.ports_with_names(false, false);
        for (range, known) in self.denied_addresses.longest_first() {
            let (range, rule) = (region.if_contains(range), known.rule.clone());
            list.push(range, &known.ports, Action::Reject, &with_names, rule);
        }
    }

    fn push_default(&self, list: &mut List, region: Region, selection: &Selection) {
        let with_names = self.ports_with_names(false, false);
        let Selection { global: ports, global_rule, .. } = selection;
        for (range, ()) in self.also_global.longest_first() {
            let range = region.if_contains(range);
            list.push(range, ports, Action::Accept, &with_names, global_rule.clone());
        }
        for (range, is_global) in self.global.longest_first() {
            let (action, rule) = match is_global {
                true => (Action::Accept, global_rule.clone()),
                false => (Action::Reject, Rule::NotGlobal),
            };
            list.push(region.if_contains(range), ports, action, &with_names, rule);
        }
        for range in region.ranges() {
            list.push(Some(range), &Ports::all(), Action::Reject, &with_names, Rule::Default);
        }
    }
}

/// The rules that a list has in addition to the guardrails and `allow_out`.
struct Selection {
    /// The ports on which the ranges of `deny_out` are rejected.
    denied: Ports,
    /// Whether the known addresses of denied names are rejected.
    known_addresses: bool,
    /// The ports on which globally routable addresses that no list contains are accepted.
    global: Ports,
    /// The rule that accepts them.
    global_rule: Rule,
}

/// The rules so far.
#[derive(Default)]
struct List {
    rules: Vec<AddressRule>,
    /// The ports of all rules of each range.
    covered: BTreeMap<IpNet, Ports>,
}

impl List {
    /// Adds a rule, unless no packet can reach it.
    fn push(
        &mut self,
        range: Option<IpNet>,
        ports: &Ports,
        action: Action,
        ports_with_names: &Ports,
        rule: Rule,
    ) {
        let Some(range) = range else { return };
        let covered = self.covered.entry(range).or_insert_with(Ports::none);
        if ports.minus(covered).is_empty() {
            return;
        }
        *covered = covered.union(ports);
        let (ports, ports_with_names) = (ports.clone(), ports_with_names.clone());
        self.rules.push(AddressRule { range, ports, action, ports_with_names, rule });
    }
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
    /// All regions. Regions of a group don't overlap, so the rules of a list of the policy come together
    /// for all of them. Rules of [`Self::Rest`] may contain addresses of the group before.
    fn groups() -> [Vec<Self>; 2] {
        [EMBEDDINGS.map(Self::Embedded).to_vec(), vec![Self::Rest]]
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
