//! Properties that hold for any policy and any connection.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use proptest::prelude::*;
use sandgate_policy::egress::config::{EgressConfig, Intersection};
use sandgate_policy::egress::{
    Action, ConnectionFacts, DeniedAddresses, Destination, DomainPattern, Entry, Name,
    NetworkPolicy, OperatorSettings, Policy, QueryAction, Route, RuleOrder, ShownName, Verdict,
    VirtualMeaning,
};

use super::reference::{self, Known, Outcome};

/// Addresses that are close to ranges of the rules, and to each other.
const V4: [[u8; 4]; 12] = [
    [8, 8, 8, 8],
    [8, 8, 4, 4],
    [10, 0, 0, 5],
    [10, 1, 2, 3],
    [169, 254, 169, 254],
    [203, 0, 113, 7],
    [198, 18, 0, 9],
    [127, 0, 0, 1],
    [100, 64, 0, 1],
    [192, 168, 1, 1],
    [224, 0, 0, 1],
    [192, 0, 0, 9],
];
const V6: [[u16; 8]; 8] = [
    [0x2606, 0x4700, 0, 0, 0, 0, 0, 0x1111],
    [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1],
    [0x2001, 1, 0, 0, 0, 0, 0, 1],
    [0xfd00, 0, 0, 0, 0, 0, 0, 1],
    [0xfe80, 0, 0, 0, 0, 0, 0, 1],
    [0, 0, 0, 0, 0, 0, 0, 1],
    [0x64, 0xff9b, 1, 0, 0, 0, 0x808, 0x808],
    [0x2001, 0x20, 0, 0, 0, 0, 0, 1],
];

fn v4() -> impl Strategy<Value = Ipv4Addr> {
    prop_oneof![4 => prop::sample::select(&V4[..]).prop_map(Ipv4Addr::from), 1 => any::<Ipv4Addr>()]
}

fn address() -> impl Strategy<Value = IpAddr> {
    let embedded = (v4(), 0..3, any::<u64>()).prop_map(|(v4, how, rest)| {
        let bits = u128::from(v4.to_bits());
        let address = match how {
            0 => bits | (0xffff << 32),
            1 => bits | (0x64_ff9b << 96),
            _ => (0x2002 << 112) | (bits << 80) | u128::from(rest >> 60),
        };
        IpAddr::V6(Ipv6Addr::from_bits(address))
    });
    prop_oneof![
        4 => v4().prop_map(IpAddr::V4),
        3 => embedded,
        2 => prop::sample::select(&V6[..]).prop_map(|s| IpAddr::V6(Ipv6Addr::from(s))),
        1 => any::<Ipv6Addr>().prop_map(IpAddr::V6),
    ]
}

fn range() -> impl Strategy<Value = IpNet> {
    (address(), 0_u8..=128).prop_map(|(address, length)| {
        let most = if address.is_ipv4() { 32 } else { 128 };
        let range = IpNet::new(address, length.min(most)).expect("the length fits").trunc();
        // The same normalisation as for a parsed entry: a mapped range becomes the IPv4 range.
        match Entry::parse(&range.to_string()) {
            Ok(Entry::Address(range)) => range,
            other => panic!("{range} is a range, not {other:?}"),
        }
    })
}

fn name() -> impl Strategy<Value = Name> {
    let labels = prop::collection::vec(prop::sample::select(vec!["a", "b", "cb"]), 1..4);
    labels.prop_map(|labels| labels.join(".").parse().expect("it is a name"))
}

fn entry() -> impl Strategy<Value = Entry> {
    prop_oneof![
        2 => range().prop_map(Entry::Address),
        1 => name().prop_map(|name| Entry::Domain(DomainPattern::Exact(name))),
        1 => name().prop_map(|name| Entry::Domain(DomainPattern::Below(name))),
    ]
}

fn network() -> impl Strategy<Value = NetworkPolicy> {
    let list = || prop::collection::vec(entry(), 0..4);
    (any::<bool>(), list(), list()).prop_map(|(allow_internet_access, allow_out, deny_out)| {
        NetworkPolicy { allow_internet_access, allow_out, deny_out }
    })
}

fn operator() -> impl Strategy<Value = OperatorSettings> {
    let order = prop_oneof![Just(RuleOrder::AllowFirst), Just(RuleOrder::DenyFirst)];
    let list = || prop::collection::vec(range(), 0..2);
    (order, list(), list()).prop_map(|(rule_order, protected, also_global)| OperatorSettings {
        rule_order,
        protected,
        also_global,
    })
}

fn fact() -> impl Strategy<Value = ShownName> {
    prop_oneof![
        4 => Just(ShownName::Absent),
        6 => name().prop_map(ShownName::Name),
        2 => address().prop_map(ShownName::Address),
        1 => Just(ShownName::Unparsable),
    ]
}

fn destination() -> impl Strategy<Value = Destination> {
    prop_oneof![
        4 => address().prop_map(Destination::Address),
        1 => name().prop_map(|name| Destination::Virtual(VirtualMeaning::Name(name))),
        1 => Just(Destination::Virtual(VirtualMeaning::Wildcard)),
    ]
}

fn known() -> impl Strategy<Value = Known> {
    prop::collection::vec((name(), address()), 0..3)
}

/// A policy, known addresses of names, and an address that often is a known address of a denied
/// name.
fn aimed() -> impl Strategy<Value = (NetworkPolicy, Known, IpAddr)> {
    (network(), known(), address(), any::<bool>()).prop_map(|(network, mut known, address, hit)| {
        let denied = network.deny_out.iter().find_map(|entry| match entry {
            Entry::Address(_) => None,
            Entry::Domain(DomainPattern::Exact(name)) => Some(name.clone()),
            Entry::Domain(DomainPattern::Below(parent)) => format!("a.{parent}").parse().ok(),
        });
        known.extend(denied.filter(|_| hit).map(|name| (name, address)));
        (network, known, address)
    })
}

/// `Address(address)`, or `or` if `or` is virtual.
fn at(address: IpAddr, or: Destination) -> Destination {
    match or {
        Destination::Address(_) => Destination::Address(address),
        Destination::Virtual(_) => or,
    }
}

fn with_denied_addresses(
    network: &NetworkPolicy,
    operator: &OperatorSettings,
    known: &Known,
) -> Policy {
    let known = DeniedAddresses::new(known.clone()).expect("they are few");
    Policy::new(network, operator).with_denied_addresses(&known)
}

fn outcome(verdict: &Verdict) -> Outcome {
    match verdict {
        Verdict::Deny(_) => Outcome::Deny,
        Verdict::Allow(permit) => match permit.route() {
            Route::ByName(name) => Outcome::ByName(name.clone()),
            Route::Original(address) => Outcome::Original(*address),
        },
    }
}

fn without_names(policy: &Policy, address: IpAddr) -> Verdict {
    let destination = Destination::Address(address);
    policy.decide(&ConnectionFacts {
        destination: &destination,
        sni: ShownName::Absent,
        host: ShownName::Absent,
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2_000,
        max_global_rejects: 200_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_policy_agrees_with_the_reference(
        (network, known, address) in aimed(), operator in operator(), or in destination(),
        sni in fact(), host in fact(),
    ) {
        let destination = at(address, or);
        let expected = reference::decide(&network, &operator, &known, &destination, &sni, &host);
        let policy = with_denied_addresses(&network, &operator, &known);
        let verdict = policy.decide(&ConnectionFacts { destination: &destination, sni, host });
        prop_assert_eq!(outcome(&verdict), expected, "{}", verdict.rule());
    }

    #[test]
    fn the_address_rules_agree_with_the_decision(
        (network, known, address) in aimed(), operator in operator(),
    ) {
        let policy = with_denied_addresses(&network, &operator, &known);
        let verdict = without_names(&policy, address);
        let rules = policy.address_rules();
        let rule = rules.first_match(address).expect("every address is in a range");
        prop_assert_eq!(rule.action == Action::Accept, verdict.is_allowed());
        prop_assert_eq!(&rule.rule, verdict.rule());
        prop_assert_eq!(rule.needs_names, policy.needs_names(address));
    }

    #[test]
    fn if_names_are_not_needed_no_name_changes_the_verdict(
        (network, known, address) in aimed(), operator in operator(),
        sni in fact(), host in fact(),
    ) {
        let policy = with_denied_addresses(&network, &operator, &known);
        prop_assume!(!policy.needs_names(address));
        let destination = Destination::Address(address);
        let verdict = policy.decide(&ConnectionFacts { destination: &destination, sni, host });
        prop_assert_eq!(verdict, without_names(&policy, address));
    }

    #[test]
    fn a_guardrail_denies_whatever_names_are_shown(
        network in network(), address in address(), length in 0_u8..=128,
        sni in fact(), host in fact(),
    ) {
        let most = if address.is_ipv4() { 32 } else { 128 };
        let protected = IpNet::new(address, length.min(most)).expect("the length fits").trunc();
        let operator = OperatorSettings { protected: vec![protected], ..OperatorSettings::default() };
        let policy = Policy::new(&network, &operator);
        let destination = Destination::Address(address);
        let verdict = policy.decide(&ConnectionFacts { destination: &destination, sni, host });
        prop_assert!(!verdict.is_allowed());
        for rules in [policy.address_rules(), policy.upstream_address_rules()] {
            let rule = rules.first_match(address).expect("every address is in a range");
            prop_assert_eq!(rule.action, Action::Reject);
        }
    }

    #[test]
    fn each_of_two_settings_allows_what_the_stricter_of_them_allows(
        network in network(), old in operator(), new in operator(), destination in destination(),
        address in address(), sni in fact(), host in fact(), name in name(),
    ) {
        let policy = |operator: &OperatorSettings| Policy::new(&network, operator);
        let both = policy(&old.stricter(&new));
        let facts = ConnectionFacts { destination: &destination, sni, host };
        let accepts = |policy: &Policy| {
            let lists = [policy.address_rules(), policy.upstream_address_rules()];
            lists.map(|list| list.first_match(address).map(|rule| rule.action) == Some(Action::Accept))
        };
        for one in [policy(&old), policy(&new)] {
            prop_assert!(one.decide(&facts).is_allowed() || !both.decide(&facts).is_allowed());
            prop_assert!(one.evaluate_name(&name).is_allowed() || !both.evaluate_name(&name).is_allowed());
            let (found, found_by_both) =
                (one.evaluate_resolved(&name, address), both.evaluate_resolved(&name, address));
            prop_assert!(found.is_allowed() || !found_by_both.is_allowed());
            for (one, both) in accepts(&one).into_iter().zip(accepts(&both)) {
                prop_assert!(one || !both);
            }
        }
        // The stricter of two equal settings is the same setting.
        prop_assert_eq!(policy(&old.stricter(&old)).decide(&facts), policy(&old).decide(&facts));
    }

    #[test]
    fn an_intersection_allows_what_both_policies_allow(
        old in network(), new in network(), operator in operator(), destination in destination(),
        sni in fact(), host in fact(),
    ) {
        let (old, new) = (Policy::new(&old, &operator), Policy::new(&new, &operator));
        let facts = ConnectionFacts { destination: &destination, sni, host };
        let each = [old.decide(&facts), new.decide(&facts)];
        let both = Intersection::new(old, Some(new)).decide(&facts);
        prop_assert_eq!(both.is_allowed(), each.iter().all(Verdict::is_allowed));
        // The route is the route of one of the policies: by name, if any of them routes by name.
        let by_name = |verdict: &Verdict| matches!(outcome(verdict), Outcome::ByName(_));
        if both.is_allowed() {
            prop_assert!(each.contains(&both));
            prop_assert_eq!(by_name(&both), each.iter().any(by_name));
        }
    }

    #[test]
    fn the_rules_for_envoys_connections_accept_every_permitted_address(
        (network, known, address) in aimed(), operator in operator(),
        name in name(), fact in fact(),
    ) {
        let policy = with_denied_addresses(&network, &operator, &known);
        let rules = policy.upstream_address_rules();
        let rule = rules.first_match(address).expect("every address is in a range");
        let destination = Destination::Address(address);
        let facts = ConnectionFacts { destination: &destination, sni: fact, host: ShownName::Absent };
        let by_address = matches!(outcome(&policy.decide(&facts)), Outcome::Original(_));
        let allowed = by_address || without_names(&policy, address).is_allowed()
            || policy.evaluate_resolved(&name, address).is_allowed();
        prop_assert!(rule.action == Action::Accept || !allowed, "{}", rule.rule);
    }

    #[test]
    fn a_name_that_resolves_to_an_address_does_not_bypass_the_rules(
        network in network(), operator in operator(), address in address(), name in name(),
    ) {
        let policy = Policy::new(&network, &operator);
        let found = policy.evaluate_resolved(&name, address);
        if found.is_allowed() {
            prop_assert!(policy.evaluate_name(&name).is_allowed()
                || without_names(&policy, address).is_allowed());
            prop_assert!(policy.is_global(address) || without_names(&policy, address).is_allowed());
        }
    }

    #[test]
    fn known_addresses_do_not_affect_connections_that_show_a_name(
        (network, known, address) in aimed(), operator in operator(), or in destination(),
        shown in name(),
    ) {
        let destination = at(address, or);
        let facts = ConnectionFacts {
            destination: &destination, sni: ShownName::Name(shown), host: ShownName::Absent,
        };
        let without = Policy::new(&network, &operator).decide(&facts);
        prop_assert_eq!(with_denied_addresses(&network, &operator, &known).decide(&facts), without);
    }

    #[test]
    fn known_addresses_never_allow_anything(
        (network, known, address) in aimed(), operator in operator(), or in destination(),
        sni in fact(), host in fact(),
    ) {
        let destination = at(address, or);
        let facts = ConnectionFacts { destination: &destination, sni, host };
        let with = with_denied_addresses(&network, &operator, &known).decide(&facts);
        prop_assert!(!with.is_allowed() || with == Policy::new(&network, &operator).decide(&facts));
    }

    #[test]
    fn dns_refuses_exactly_the_names_that_envoy_may_not_connect_to(
        network in network(), operator in operator(), name in name(),
    ) {
        let policy = Policy::new(&network, &operator);
        let refused = matches!(policy.evaluate_query(&name), QueryAction::Deny(_));
        prop_assert_eq!(policy.evaluate_name(&name).is_allowed(), !refused);
    }

    #[test]
    fn policies_and_settings_survive_serialization(network in network(), operator in operator()) {
        let json = serde_json::to_string(&network).expect("a policy can be written");
        prop_assert_eq!(&serde_json::from_str::<NetworkPolicy>(&json).expect("and read"), &network);
        let json = serde_json::to_string(&operator).expect("settings can be written");
        prop_assert_eq!(serde_json::from_str::<OperatorSettings>(&json).expect("and read"), operator);
    }

    #[test]
    fn the_text_of_an_entry_parses_to_the_same_entry(text in "[0-9a-zA-Z:./*_-]{0,20}") {
        if let Ok(entry) = Entry::parse(&text) {
            prop_assert_eq!(Entry::parse(&entry.to_string()), Ok(entry));
        }
    }

    #[test]
    fn no_input_panics(text in any::<String>(), bytes in any::<Vec<u8>>()) {
        let _ = Entry::parse(&text);
        let _ = (ShownName::from_sni(&bytes), ShownName::from_authority(&bytes));
        let _ = ShownName::from_authority(text.as_bytes());
        let _ = EgressConfig::from_json(&bytes);
        let _ = serde_json::from_value::<NetworkPolicy>(serde_json::json!({"deny_out": [text]}));
    }
}
