//! Converts an ordered list of ranges, in which the first match decides, to nftables rules:
//! adjacent entries with the same outcome become one set, which nftables looks up fast.

use std::fmt::Write as _;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// An ordered list of ranges with outcomes. The first match decides.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct FirstMatch<T> {
    runs: Vec<(Vec<IpNet>, T)>,
    default: T,
}

/// The address of a packet that a rule matches.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Side {
    /// The destination address.
    Destination,
    /// The source address.
    Source,
}

impl<T: Clone + PartialEq> FirstMatch<T> {
    /// Builds the list. `default` is the outcome of all addresses that no range contains.
    pub(crate) fn new(rules: impl IntoIterator<Item = (IpNet, T)>, default: T) -> Self {
        let mut runs: Vec<(Vec<IpNet>, T)> = Vec::new();
        for (range, outcome) in rules {
            match runs.last_mut() {
                Some((ranges, same)) if *same == outcome => ranges.push(range),
                _ => runs.push((vec![range], outcome)),
            }
        }
        // A last entry with the default outcome needs no rule.
        while runs.last().is_some_and(|(_, outcome)| *outcome == default) {
            runs.pop();
        }
        for (ranges, _) in &mut runs {
            *ranges = IpNet::aggregate(ranges);
        }
        Self { runs, default }
    }

    /// Renders the rules of a chain. `statement` returns the nftables statement of an outcome.
    #[must_use]
    pub(crate) fn rules(&self, side: Side, statement: impl Fn(&T) -> String) -> String {
        let side = match side {
            Side::Destination => "daddr",
            Side::Source => "saddr",
        };
        let mut text = String::new();
        for (ranges, outcome) in &self.runs {
            let v4: Vec<Ipv4Net> = ranges.iter().filter_map(v4).collect();
            let v6: Vec<Ipv6Net> = ranges.iter().filter_map(v6).collect();
            for (family, set) in [("ip", set(&v4)), ("ip6", set(&v6))] {
                if let Some(set) = set {
                    // Writing to a String can't fail.
                    let _ = writeln!(text, "    {family} {side} {set} {}", statement(outcome));
                }
            }
        }
        let _ = writeln!(text, "    {}", statement(&self.default));
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
            rules.iter().map(|(range, outcome)| (range.parse().unwrap(), *outcome)),
            default,
        )
    }

    fn shown(list: &FirstMatch<bool>) -> String {
        list.rules(Side::Destination, |outcome| {
            if *outcome { "return" } else { "goto refuse" }.to_owned()
        })
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
}
