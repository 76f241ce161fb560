//! Converts an ordered list of ranges with ports, in which the first match decides, to nftables
//! rules. Adjacent entries with the same outcome are a block, in which the order has no effect. The
//! entries of a block that have the same ports become one set, which nftables looks up fast.
//!
//! The kernel searches all anonymous sets of a table for each new one, so the time to load a list
//! grows with the square of their number. Therefore TCP and UDP are a named set, and a list of a
//! policy has a maximum number of different ports.

use std::fmt::Write as _;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use sandgate_policy::egress::Ports;

/// The named set of the protocols that have ports.
pub(super) const PORTED: &str = "ported";

/// An ordered list of ranges with ports and outcomes. The first match decides.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct FirstMatch<T> {
    runs: Vec<Run<T>>,
    default: T,
}

/// Ranges with the same ports and the same outcome.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Run<T> {
    ranges: Vec<IpNet>,
    ports: Ports,
    outcome: T,
}

/// The address and port of a packet that a rule matches.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Side {
    /// The destination.
    Destination,
    /// The source.
    Source,
}

impl Side {
    fn address(self) -> &'static str {
        match self {
            Self::Destination => "daddr",
            Self::Source => "saddr",
        }
    }

    /// The conditions under which a packet is in the set of ports. One of them must hold.
    fn conditions(self, ports: &Ports) -> Vec<String> {
        let name = match self {
            Self::Destination => "dport",
            Self::Source => "sport",
        };
        if ports.is_all() {
            return vec![String::new()];
        }
        let mut conditions = Vec::new();
        if !ports.ranges().is_empty() {
            let shown: Vec<String> = ports.ranges().iter().map(shown_ports).collect();
            conditions
                .push(format!("meta l4proto @{PORTED} th {name} {{ {} }} ", shown.join(", ")));
        }
        if ports.has_portless() {
            conditions.push(format!("meta l4proto != @{PORTED} "));
        }
        conditions
    }

    /// The statements that can apply to a packet with these ports, each with its conditions.
    fn conditional(self, ports: &Ports, statements: Vec<(Ports, String)>) -> Vec<(String, String)> {
        let mut remaining = ports.clone();
        let mut conditional = Vec::new();
        for (on, statement) in statements {
            if remaining.is_empty() {
                break;
            }
            // Not the remaining ports, because they may be more ranges. Earlier statements come first.
            let conditions = self.conditions(&ports.intersection(&on)).into_iter();
            conditional.extend(conditions.map(|condition| (condition, statement.clone())));
            remaining = remaining.minus(&on);
        }
        conditional
    }
}

fn shown_ports((first, last): &(u16, u16)) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

impl<T: Clone + PartialEq> FirstMatch<T> {
    /// Builds the list. `default` is the outcome of everything that no rule matches.
    pub(crate) fn new(rules: impl IntoIterator<Item = (IpNet, Ports, T)>, default: T) -> Self {
        let mut runs: Vec<Run<T>> = Vec::new();
        for (range, ports, outcome) in rules {
            let mut block = runs.iter_mut().rev().take_while(|run| run.outcome == outcome);
            match block.find(|run| run.ports == ports) {
                Some(run) => run.ranges.push(range),
                None => runs.push(Run { ranges: vec![range], ports, outcome }),
            }
        }
        // A last entry with the default outcome needs no rule.
        while runs.last().is_some_and(|run| run.outcome == default) {
            runs.pop();
        }
        for run in &mut runs {
            run.ranges = IpNet::aggregate(&run.ranges);
        }
        Self { runs, default }
    }

    /// Renders the rules of a chain. `statements` returns the nftables statements of an outcome,
    /// each with the ports on which it applies. The first one that applies decides.
    #[must_use]
    pub(crate) fn rules(
        &self,
        side: Side,
        statements: impl Fn(&T) -> Vec<(Ports, String)>,
    ) -> String {
        let mut text = String::new();
        for Run { ranges, ports, outcome } in &self.runs {
            let v4: Vec<Ipv4Net> = ranges.iter().filter_map(v4).collect();
            let v6: Vec<Ipv6Net> = ranges.iter().filter_map(v6).collect();
            for (condition, statement) in side.conditional(ports, statements(outcome)) {
                for (family, set) in [("ip", set(&v4)), ("ip6", set(&v6))] {
                    if let Some(set) = set {
                        let side = side.address();
                        // Writing to a String can't fail.
                        let _ = writeln!(text, "    {family} {side} {set} {condition}{statement}");
                    }
                }
            }
        }
        for (condition, statement) in side.conditional(&Ports::all(), statements(&self.default)) {
            let _ = writeln!(text, "    {condition}{statement}");
        }
        text
    }
}

fn v4(range: &IpNet) -> Option<Ipv4Net> {
    match range {
        IpNet::V4(range) => Some(*range),
        IpNet::V6(_) => None,
    }
}

fn v6(range: &IpNet) -> Option<Ipv6Net> {
    match range {
        IpNet::V4(_) => None,
        IpNet::V6(range) => Some(*range),
    }
}

/// An anonymous set, or `None` if there are no ranges.
fn set<T: std::fmt::Display>(ranges: &[T]) -> Option<String> {
    let shown: Vec<String> = ranges.iter().map(ToString::to_string).collect();
    (!shown.is_empty()).then(|| format!("{{ {} }}", shown.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(rules: &[(&str, bool)], default: bool) -> FirstMatch<bool> {
        FirstMatch::new(
            rules.iter().map(|(range, outcome)| (range.parse().unwrap(), Ports::all(), *outcome)),
            default,
        )
    }

    fn statements(outcome: bool) -> Vec<(Ports, String)> {
        vec![(Ports::all(), if outcome { "return" } else { "goto refuse" }.to_owned())]
    }

    fn shown(list: &FirstMatch<bool>) -> String {
        list.rules(Side::Destination, |outcome| statements(*outcome))
    }

    #[test]
    fn adjacent_ranges_with_one_outcome_become_one_set_per_family() {
        let list = list(
            &[
                ("10.0.0.0/8", true),
                ("2001:db8::/32", true),
                ("192.0.2.0/24", true),
                ("198.51.100.0/24", false),
            ],
            true,
        );
        assert_eq!(
            shown(&list),
            "    ip daddr { 10.0.0.0/8, 192.0.2.0/24 } return\n    ip6 daddr { 2001:db8::/32 } return\n    \
             ip daddr { 198.51.100.0/24 } goto refuse\n    return\n"
        );
    }

    #[test]
    fn overlapping_ranges_are_merged_because_nft_refuses_them_in_a_set() {
        let list =
            list(&[("10.0.0.0/8", true), ("10.1.0.0/16", true), ("10.0.0.0/9", true)], false);
        assert_eq!(shown(&list), "    ip daddr { 10.0.0.0/8 } return\n    goto refuse\n");
    }

    #[test]
    fn an_exception_stays_before_the_wider_range() {
        let list = list(&[("10.1.0.0/16", false), ("10.0.0.0/8", true)], false);
        assert_eq!(
            shown(&list),
            "    ip daddr { 10.1.0.0/16 } goto refuse\n    ip daddr { 10.0.0.0/8 } return\n    goto refuse\n"
        );
    }

    #[test]
    fn a_last_range_with_the_default_outcome_has_no_rule() {
        assert_eq!(
            shown(&list(&[("10.0.0.0/8", true), ("10.1.0.0/16", false)], false)).lines().count(),
            2
        );
        assert_eq!(shown(&list(&[("10.0.0.0/8", true)], true)), "    return\n");
    }

    fn ports(entry: &str) -> Ports {
        sandgate_policy::egress::Entry::parse(entry).unwrap().ports.into()
    }

    #[test]
    fn ranges_with_different_ports_are_different_sets() {
        let rule = |range: &str, entry| (range.parse().unwrap(), ports(entry), true);
        let list = FirstMatch::new(
            [
                rule("10.0.0.0/8", "a:53"),
                rule("192.0.2.0/24", "a:53"),
                rule("2001:db8::/32", "a:8000-8100"),
            ],
            false,
        );
        assert_eq!(
            shown(&list),
            "    ip daddr { 10.0.0.0/8, 192.0.2.0/24 } meta l4proto @ported th dport { 53 } return\n    \
             ip6 daddr { 2001:db8::/32 } meta l4proto @ported th dport { 8000-8100 } return\n    goto refuse\n"
        );
        assert!(list.rules(Side::Source, |one| statements(*one)).contains(
            "ip saddr { 10.0.0.0/8, 192.0.2.0/24 } meta l4proto @ported th sport { 53 }"
        ));
    }

    #[test]
    fn entries_of_a_block_that_have_the_same_ports_are_one_set() {
        let rule = |range: &str, entry, outcome| (range.parse().unwrap(), ports(entry), outcome);
        let list = FirstMatch::new(
            [
                rule("192.0.2.1/32", "a:1", true),
                rule("192.0.2.1/32", "a:2", true),
                rule("192.0.2.9/32", "a:1", true),
                rule("192.0.2.0/28", "a:1", false),
                rule("198.51.100.1/32", "a:1", true),
            ],
            false,
        );
        assert_eq!(
            shown(&list),
            "    ip daddr { 192.0.2.1/32, 192.0.2.9/32 } meta l4proto @ported th dport { 1 } return\n    \
             ip daddr { 192.0.2.1/32 } meta l4proto @ported th dport { 2 } return\n    \
             ip daddr { 192.0.2.0/28 } meta l4proto @ported th dport { 1 } goto refuse\n    \
             ip daddr { 198.51.100.1/32 } meta l4proto @ported th dport { 1 } return\n    goto refuse\n",
            "an entry of another outcome ends the block"
        );
    }

    #[test]
    fn a_set_without_some_ports_contains_traffic_without_ports() {
        let others = Ports::all().minus(&ports("a:443"));
        let list = FirstMatch::new([("10.0.0.0/8".parse().unwrap(), others, true)], false);
        assert_eq!(
            shown(&list),
            "    ip daddr { 10.0.0.0/8 } meta l4proto @ported th dport { 0-442, 444-65535 } return\n    \
             ip daddr { 10.0.0.0/8 } meta l4proto != @ported return\n    goto refuse\n"
        );
    }

    #[test]
    fn a_statement_that_applies_on_no_port_of_the_rule_has_no_rule() {
        let list = FirstMatch::new([("10.0.0.0/8".parse().unwrap(), ports("a:80"), true)], false);
        let text = list.rules(Side::Destination, |outcome| match outcome {
            true => {
                vec![(ports("a:443"), "goto a".to_owned()), (ports("a:80-90"), "goto b".to_owned())]
            }
            false => {
                vec![(ports("a:443"), "goto a".to_owned()), (Ports::all(), "goto c".to_owned())]
            }
        });
        assert_eq!(
            text,
            "    ip daddr { 10.0.0.0/8 } meta l4proto @ported th dport { 80 } goto b\n    \
             meta l4proto @ported th dport { 443 } goto a\n    goto c\n"
        );
    }
}
