//! Properties that hold for any policy and any connection.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use proptest::prelude::*;
use sandgate_policy::egress::config::{EgressConfig, Intersection};
use sandgate_policy::egress::{
    Action, ConnectionFacts, DeniedAddresses, Destination, DomainPattern, Entry, Name,
    NetworkPolicy, OperatorSettings, Policy, PortRange, QueryAction, Route, Rule, RuleOrder,
    ShownName, Target, Verdict, VirtualMeaning,
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
            Ok(Entry { target: Target::Address(range), ports: None }) => range,
            other => panic!("{range} is a range, not {other:?}"),
        }
    })
}

fn name() -> impl Strategy<Value = Name> {
    let labels = prop::collection::vec(prop::sample::select(vec!["a", "b", "cb"]), 1..4);
    labels.prop_map(|labels| labels.join(".").parse().expect("it is a name"))
}

/// Ports of entries that overlap, touch, and contain each other.
const PORTS: [&str; 8] = ["443", "80", "53", "1-100", "80-443", "101-500", "1-65535", "501-65535"];
/// Each port next to a bound of [`PORTS`], and traffic without ports.
const SAMPLES: [Option<u16>; 20] = [
    None,
    Some(0),
    Some(1),
    Some(2),
    Some(52),
    Some(53),
    Some(54),
    Some(79),
    Some(80),
    Some(81),
    Some(100),
    Some(101),
    Some(442),
    Some(443),
    Some(444),
    Some(500),
    Some(501),
    Some(502),
    Some(65_534),
    Some(65_535),
];

fn ports() -> impl Strategy<Value = Option<PortRange>> {
    let some = prop::sample::select(&PORTS[..])
        .prop_map(|ports| Entry::parse(&format!("a.test:{ports}")).expect("it is an entry").ports);
    prop_oneof![1 => Just(None), 1 => some]
}

fn port() -> impl Strategy<Value = Option<u16>> {
    prop_oneof![
        3 => prop::sample::select(&SAMPLES[..]),
        1 => any::<u16>().prop_map(Some),
    ]
}

fn entry() -> impl Strategy<Value = Entry> {
    let target = prop_oneof![
        2 => range().prop_map(Target::Address),
        1 => name().prop_map(|name| Target::Domain(DomainPattern::Exact(name))),
        1 => name().prop_map(|name| Target::Domain(DomainPattern::Below(name))),
    ];
    (target, ports()).prop_map(|(target, ports)| Entry { target, ports })
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
        let denied = network.deny_out.iter().find_map(|entry| match &entry.target {
            Target::Address(_) => None,
            Target::Domain(DomainPattern::Exact(name)) => Some(name.clone()),
            Target::Domain(DomainPattern::Below(parent)) => format!("a.{parent}").parse().ok(),
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

fn without_names(policy: &Policy, address: IpAddr, port: Option<u16>) -> Verdict {
    let destination = Destination::Address(address);
    policy.decide(&ConnectionFacts {
        destination: &destination,
        port,
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
        (network, known, address) in aimed(), port in port(), operator in operator(), or in destination(),
        sni in fact(), host in fact(),
    ) {
        let destination = at(address, or);
        let expected = reference::decide(&network, &operator, &known, &destination, port, &sni, &host);
        let policy = with_denied_addresses(&network, &operator, &known);
        let verdict = policy.decide(&ConnectionFacts { destination: &destination, port, sni, host });
        prop_assert_eq!(outcome(&verdict), expected, "{}", verdict.rule());
    }

    #[test]
    fn the_address_rules_agree_with_the_decision(
        (network, known, address) in aimed(), port in port(), operator in operator(),
    ) {
        let policy = with_denied_addresses(&network, &operator, &known);
        let verdict = without_names(&policy, address, port);
        let rules = policy.address_rules();
        let rule = rules.first_match(address, port).expect("every address is in a range");
        prop_assert_eq!(rule.action == Action::Accept, verdict.is_allowed());
        prop_assert_eq!(&rule.rule, verdict.rule());
        prop_assert_eq!(rule.ports_with_names.contains(port), policy.needs_names(address, port));
    }

    #[test]
    fn if_names_are_not_needed_no_name_changes_the_verdict(
        (network, known, address) in aimed(), port in port(), operator in operator(),
        sni in fact(), host in fact(),
    ) {
        let policy = with_denied_addresses(&network, &operator, &known);
        prop_assume!(!policy.needs_names(address, port));
        let destination = Destination::Address(address);
        let verdict = policy.decide(&ConnectionFacts { destination: &destination, port, sni, host });
        prop_assert_eq!(verdict, without_names(&policy, address, port));
    }

    #[test]
    fn a_guardrail_denies_whatever_names_are_shown(
        network in network(), address in address(), port in port(), length in 0_u8..=128,
        sni in fact(), host in fact(),
    ) {
        let most = if address.is_ipv4() { 32 } else { 128 };
        let protected = IpNet::new(address, length.min(most)).expect("the length fits").trunc();
        let operator = OperatorSettings { protected: vec![protected], ..OperatorSettings::default() };
        let policy = Policy::new(&network, &operator);
        let destination = Destination::Address(address);
        let verdict = policy.decide(&ConnectionFacts { destination: &destination, port, sni, host });
        prop_assert!(!verdict.is_allowed());
        for rules in [policy.address_rules(), policy.upstream_address_rules()] {
            let rule = rules.first_match(address, port).expect("every address is in a range");
            prop_assert_eq!(rule.action, Action::Reject);
        }
    }

    #[test]
    fn each_of_two_settings_allows_what_the_stricter_of_them_allows(
        network in network(), port in port(), old in operator(), new in operator(), destination in destination(),
        address in address(), sni in fact(), host in fact(), name in name(),
    ) {
        let policy = |operator: &OperatorSettings| Policy::new(&network, operator);
        let both = policy(&old.stricter(&new));
        let facts = ConnectionFacts { destination: &destination, port, sni, host };
        let accepts = |policy: &Policy| {
            let lists = [policy.address_rules(), policy.upstream_address_rules()];
            lists.map(|list| list.first_match(address, port).map(|rule| rule.action) == Some(Action::Accept))
        };
        for one in [policy(&old), policy(&new)] {
            prop_assert!(one.decide(&facts).is_allowed() || !both.decide(&facts).is_allowed());
            prop_assert!(one.evaluate_name(&name, port).is_allowed() || !both.evaluate_name(&name, port).is_allowed());
            let (found, found_by_both) =
                (one.evaluate_resolved(&name, address, port), both.evaluate_resolved(&name, address, port));
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
        old in network(), new in network(), port in port(), operator in operator(), destination in destination(),
        sni in fact(), host in fact(),
    ) {
        let (old, new) = (Policy::new(&old, &operator), Policy::new(&new, &operator));
        let facts = ConnectionFacts { destination: &destination, port, sni, host };
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
        (network, known, address) in aimed(), port in port(), operator in operator(),
        name in name(), fact in fact(),
    ) {
        let policy = with_denied_addresses(&network, &operator, &known);
        let rules = policy.upstream_address_rules();
        let rule = rules.first_match(address, port).expect("every address is in a range");
        let destination = Destination::Address(address);
        let facts = ConnectionFacts { destination: &destination, port, sni: fact, host: ShownName::Absent };
        let by_address = matches!(outcome(&policy.decide(&facts)), Outcome::Original(_));
        let allowed = by_address || without_names(&policy, address, port).is_allowed()
            || policy.evaluate_resolved(&name, address, port).is_allowed();
        prop_assert!(rule.action == Action::Accept || !allowed, "{}", rule.rule);
    }

    #[test]
    fn a_name_that_resolves_to_an_address_does_not_bypass_the_rules(
        network in network(), operator in operator(), address in address(), port in port(),
        name in name(),
    ) {
        let policy = Policy::new(&network, &operator);
        let found = policy.evaluate_resolved(&name, address, port);
        if found.is_allowed() {
            prop_assert!(policy.evaluate_name(&name, port).is_allowed()
                || without_names(&policy, address, port).is_allowed());
            prop_assert!(policy.is_global(address) || without_names(&policy, address, port).is_allowed());
        }
    }

    #[test]
    fn known_addresses_do_not_affect_connections_that_show_a_name(
        (network, known, address) in aimed(), port in port(), operator in operator(), or in destination(),
        shown in name(),
    ) {
        let destination = at(address, or);
        let facts = ConnectionFacts {
            destination: &destination, port, sni: ShownName::Name(shown), host: ShownName::Absent,
        };
        let without = Policy::new(&network, &operator).decide(&facts);
        prop_assert_eq!(with_denied_addresses(&network, &operator, &known).decide(&facts), without);
    }

    #[test]
    fn known_addresses_never_allow_anything(
        (network, known, address) in aimed(), port in port(), operator in operator(), or in destination(),
        sni in fact(), host in fact(),
    ) {
        let destination = at(address, or);
        let facts = ConnectionFacts { destination: &destination, port, sni, host };
        let with = with_denied_addresses(&network, &operator, &known).decide(&facts);
        prop_assert!(!with.is_allowed() || with == Policy::new(&network, &operator).decide(&facts));
    }

    #[test]
    fn dns_refuses_exactly_the_names_that_no_port_allows(
        network in network(), operator in operator(), name in name(),
    ) {
        let policy = Policy::new(&network, &operator);
        let refused = matches!(policy.evaluate_query(&name), QueryAction::Deny(_));
        let allowed = SAMPLES.iter().any(|port| policy.evaluate_name(&name, *port).is_allowed());
        prop_assert_eq!(allowed, !refused);
        prop_assert_eq!(reference::resolves(&network, &operator, &name, &SAMPLES), !refused);
        let denied = |port: &Option<u16>| {
            matches!(policy.evaluate_name(&name, *port).rule(), Rule::DenyOut(_))
        };
        prop_assert_eq!(policy.denies_name(&name).is_some(), SAMPLES.iter().all(denied));
    }

    #[test]
    fn a_name_may_resolve_to_the_addresses_that_some_port_allows(
        network in network(), operator in operator(), name in name(), address in address(),
    ) {
        let policy = Policy::new(&network, &operator);
        let allowed = |port: &Option<u16>| {
            policy.evaluate_resolved(&name, address, *port).is_allowed()
        };
        prop_assert_eq!(policy.may_resolve_to(&name, address), SAMPLES.iter().any(allowed));
    }

    /// Envoy's resolver does not know the port. The filter knows the name and the port, and nftables
    /// the address and the port.
    #[test]
    fn filter_and_nftables_together_allow_only_what_the_resolved_address_allows(
        network in network(), operator in operator(), name in name(), ports in ports(),
        address in address(), port in port(),
    ) {
        let mut network = network;
        let target = Target::Domain(DomainPattern::Exact(name.clone()));
        network.allow_out.push(Entry { target, ports });
        let policy = Policy::new(&network, &operator);
        let by_filter = policy.evaluate_name(&name, port);
        let rules = policy.upstream_address_rules();
        let rule = rules.first_match(address, port).expect("every address is in a range");
        if matches!(by_filter.rule(), Rule::AllowOut(_)) && rule.action == Action::Accept {
            prop_assert!(policy.evaluate_resolved(&name, address, port).is_allowed());
        }
    }

    #[test]
    fn an_entry_changes_nothing_on_other_ports(
        (network, known, address) in aimed(), extra in entry(), in_allow_out in any::<bool>(),
        operator in operator(), or in destination(), port in port(), sni in fact(), host in fact(),
    ) {
        let covered = extra.ports.is_none_or(|ports| {
            port.is_some_and(|port| {
                let ports = ports.to_string();
                let (first, last) = ports.split_once('-').unwrap_or((&ports, &ports));
                (first.parse().expect("a port")..=last.parse().expect("a port")).contains(&port)
            })
        });
        prop_assume!(!covered);
        let mut longer = network.clone();
        let list = if in_allow_out { &mut longer.allow_out } else { &mut longer.deny_out };
        list.push(extra);
        let destination = at(address, or);
        let facts = ConnectionFacts { destination: &destination, port, sni, host };
        let verdicts = [&network, &longer].map(|network| {
            let policy = with_denied_addresses(network, &operator, &known);
            let packets = policy.address_rules();
            let packet = packets.first_match(address, port).map(|rule| rule.action);
            let dials = policy.upstream_address_rules();
            let dial = dials.first_match(address, port).map(|rule| rule.action);
            (policy.decide(&facts), packet, dial)
        });
        prop_assert_eq!(&verdicts[0], &verdicts[1]);
    }

    #[test]
    fn policies_and_settings_survive_serialization(network in network(), operator in operator()) {
        let json = serde_json::to_string(&network).expect("a policy can be written");
        prop_assert_eq!(&serde_json::from_str::<NetworkPolicy>(&json).expect("and read"), &network);
        let json = serde_json::to_string(&operator).expect("settings can be written");
        prop_assert_eq!(serde_json::from_str::<OperatorSettings>(&json).expect("and read"), operator);
    }

    #[test]
    fn the_text_of_an_entry_parses_to_the_same_entry(
        text in r"[0-9a-f:./*\[\]-]{0,20}", entry in entry(),
    ) {
        prop_assert_eq!(Entry::parse(&entry.to_string()), Ok(entry));
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
