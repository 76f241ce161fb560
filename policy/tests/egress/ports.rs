//! Entries with ports: what they allow and deny, for connections, packets, and DNS. Attacks first.

use std::net::IpAddr;

use proptest::prelude::*;
use sandgate_policy::egress::{Action, DeniedAddresses, Entry, Policy, Ports, QueryAction};
use test_case::test_case;

use super::{decide_at, ip, network, operator, policy};

const NAME: &str =
    r#"{"allow_internet_access": false, "allow_out": ["ok.test:443", "*.below.test:22"]}"#;
const RANGE: &str = r#"{
    "allow_internet_access": false,
    "allow_out": ["8.8.8.8:53", "10.0.0.0/8:8000-8100", "[2001:db8::]/32:443"]
}"#;
const DENIED: &str = r#"{"deny_out": ["203.0.113.9:25", "bad.test:443", "[2606:4700::]/32:25"]}"#;
const BOTH: &str = r#"{
    "allow_out": ["203.0.113.9:443", "ok.test:443"], "deny_out": ["203.0.113.9", "ok.test"]
}"#;
const NARROW: &str = r#"{"allow_out": ["203.0.113.9"], "deny_out": ["203.0.113.9:25"]}"#;

#[test_case("203.0.113.1", Some(80), "ok.test", "" => "deny: default deny"; "attack: another port of an allowed name, by sni")]
#[test_case("203.0.113.1", Some(22), "", "ok.test" => "deny: default deny"; "attack: another port, by host")]
#[test_case("203.0.113.1", Some(80), "", "ok.test:443" => "deny: default deny"; "attack: the allowed port in the host of a request to another port")]
#[test_case("virtual ok.test", Some(22), "", "" => "deny: default deny"; "attack: another port at the virtual address")]
#[test_case("virtual ok.test", Some(22), "ok.test", "" => "deny: default deny"; "attack: another port at the virtual address, with the name")]
#[test_case("virtual *", Some(443), "a.below.test", "" => "deny: default deny"; "attack: another port at the shared virtual address")]
#[test_case("virtual ok.test", None, "", "" => "deny: default deny"; "attack: ping by a name with a port")]
#[test_case("203.0.113.1", Some(443), "a.below.test", "" => "deny: default deny"; "attack: the port of another entry")]
#[test_case("203.0.113.1", Some(443), "ok.test", "" => "allow by name ok.test: allow_out ok.test:443"; "the port of the entry")]
#[test_case("203.0.113.1", Some(443), "", "ok.test:22" => "allow by name ok.test: allow_out ok.test:443"; "the port in the host of a request has no meaning")]
#[test_case("virtual ok.test", Some(443), "", "" => "allow by name ok.test: allow_out ok.test:443"; "the virtual address")]
#[test_case("virtual *", Some(22), "", "a.below.test" => "allow by name a.below.test: allow_out *.below.test:22"; "the shared virtual address")]
#[test_case("203.0.113.1", Some(80), "", "b a d" => "deny: default deny"; "an invalid host on a port without names")]
#[test_case("203.0.113.1", Some(443), "", "b a d" => "deny: Host not understood"; "an invalid host on a port with names")]
fn a_name_with_a_port(destination: &str, port: Option<u16>, sni: &str, host: &str) -> String {
    decide_at(&policy(NAME), destination, port, sni, host)
}

#[test_case("8.8.8.8", Some(443) => "deny: default deny"; "attack: another port")]
#[test_case("8.8.8.8", Some(0) => "deny: default deny"; "attack: port zero")]
#[test_case("8.8.8.8", None => "deny: default deny"; "attack: ping")]
#[test_case("8.8.8.9", Some(53) => "deny: default deny"; "attack: another address")]
#[test_case("10.9.0.1", Some(8000) => "deny: guardrail 10.9.0.0/16"; "attack: a guardrail in a range with ports")]
#[test_case("10.0.0.1", Some(7999) => "deny: default deny"; "attack: the port before a range")]
#[test_case("10.0.0.1", Some(8101) => "deny: default deny"; "attack: the port after a range")]
#[test_case("2001:db8::1", Some(80) => "deny: default deny"; "attack: another port over ipv6")]
#[test_case("64:ff9b::808:808", Some(443) => "deny: default deny"; "attack: another port through nat64")]
#[test_case("8.8.8.8", Some(53) => "allow 8.8.8.8: allow_out 8.8.8.8:53"; "the port")]
#[test_case("64:ff9b::808:808", Some(53) => "allow 64:ff9b::808:808: allow_out 8.8.8.8:53"; "the port through nat64")]
#[test_case("10.0.0.1", Some(8000) => "allow 10.0.0.1: allow_out 10.0.0.0/8:8000-8100"; "the first port of a range")]
#[test_case("10.0.0.1", Some(8100) => "allow 10.0.0.1: allow_out 10.0.0.0/8:8000-8100"; "the last port of a range")]
#[test_case("2001:db8::1", Some(443) => "allow 2001:db8::1: allow_out [2001:db8::]/32:443"; "the port over ipv6")]
fn an_address_with_a_port(address: &str, port: Option<u16>) -> String {
    decide_at(&policy(RANGE), address, port, "", "")
}

#[test_case("203.0.113.9", Some(25), "", "" => "deny: deny_out 203.0.113.9:25"; "the port")]
#[test_case("203.0.113.9", Some(26), "", "" => "allow 203.0.113.9: allow_internet_access"; "another port")]
#[test_case("203.0.113.9", None, "", "" => "allow 203.0.113.9: allow_internet_access"; "ping")]
#[test_case("64:ff9b::cb00:7109", Some(25), "", "" => "deny: deny_out 203.0.113.9:25"; "attack: the port through nat64")]
#[test_case("2606:4700::1", Some(25), "", "" => "deny: deny_out [2606:4700::]/32:25"; "the port over ipv6")]
#[test_case("2606:4700::1", Some(443), "", "" => "allow 2606:4700::1: allow_internet_access"; "another port over ipv6")]
#[test_case("203.0.113.1", Some(443), "bad.test", "" => "deny: deny_out bad.test:443"; "a name")]
#[test_case("203.0.113.1", Some(80), "", "bad.test" => "allow 203.0.113.1: allow_internet_access"; "a name on another port")]
fn a_denial_with_a_port(address: &str, port: Option<u16>, sni: &str, host: &str) -> String {
    decide_at(&policy(DENIED), address, port, sni, host)
}

#[test_case("203.0.113.9", Some(443), "" => "allow 203.0.113.9: allow_out 203.0.113.9:443"; "allow comes first, on its port")]
#[test_case("203.0.113.9", Some(80), "" => "deny: deny_out 203.0.113.9"; "attack: a denial applies to the ports that the allowed one does not name")]
#[test_case("203.0.113.9", None, "" => "deny: deny_out 203.0.113.9"; "attack: a denial applies to ping")]
#[test_case("203.0.113.1", Some(443), "ok.test" => "allow by name ok.test: allow_out ok.test:443"; "a name, on its port")]
#[test_case("203.0.113.1", Some(80), "ok.test" => "deny: deny_out ok.test"; "attack: a denied name on another port")]
fn a_denial_without_a_port_and_a_permit_with_one(
    address: &str,
    port: Option<u16>,
    sni: &str,
) -> String {
    decide_at(&policy(BOTH), address, port, sni, "")
}

#[test_case(BOTH, "203.0.113.9", Some(443) => "deny: deny_out 203.0.113.9"; "attack: a port makes no entry more important")]
#[test_case(NARROW, "203.0.113.9", Some(25) => "deny: deny_out 203.0.113.9:25"; "a denied port")]
#[test_case(NARROW, "203.0.113.9", Some(26) => "allow 203.0.113.9: allow_out 203.0.113.9"; "another port")]
fn if_deny_comes_first(json: &str, address: &str, port: Option<u16>) -> String {
    let settings = operator(r#"{"rule_order": "deny_first", "also_global": ["203.0.113.0/24"]}"#);
    decide_at(&Policy::new(&network(json), &settings), address, port, "", "")
}

#[test]
fn a_permit_without_a_port_comes_before_a_denial_with_one() {
    let shown = decide_at(&policy(NARROW), "203.0.113.9", Some(25), "", "");
    assert_eq!(shown, "allow 203.0.113.9: allow_out 203.0.113.9");
}

/// Two entries whose ranges are the same after the first is written as NAT64.
#[test]
fn no_entry_hides_another_one_with_the_same_range() {
    let policy = policy(
        r#"{"allow_internet_access": false,
            "allow_out": ["8.8.8.8:53", "[64:ff9b::808:808]:443", "9.9.9.9", "9.9.9.9:53"],
            "deny_out": []}"#,
    );
    for (port, expected) in [
        (53, "allow 64:ff9b::808:808: allow_out 8.8.8.8:53"),
        (443, "allow 64:ff9b::808:808: allow_out [64:ff9b::808:808]:443"),
        (80, "deny: default deny"),
    ] {
        assert_eq!(decide_at(&policy, "64:ff9b::808:808", Some(port), "", ""), expected);
    }
    assert_eq!(decide_at(&policy, "8.8.8.8", Some(443), "", ""), "deny: default deny");
    // The rule is the entry with the fewest ports.
    let shown = |port| decide_at(&policy, "9.9.9.9", port, "", "");
    assert_eq!(shown(Some(53)), "allow 9.9.9.9: allow_out 9.9.9.9:53");
    assert_eq!(shown(Some(54)), "allow 9.9.9.9: allow_out 9.9.9.9");
    assert_eq!(shown(None), "allow 9.9.9.9: allow_out 9.9.9.9");
}

/// A longer range with a port does not hide a shorter one without.
#[test]
fn the_longest_range_that_has_the_port_decides() {
    let policy = policy(
        r#"{"allow_internet_access": false, "allow_out": ["10.0.0.0/8", "10.1.0.0/16:80"]}"#,
    );
    let shown = |port| decide_at(&policy, "10.1.0.1", Some(port), "", "");
    assert_eq!(shown(80), "allow 10.1.0.1: allow_out 10.1.0.0/16:80");
    assert_eq!(shown(81), "allow 10.1.0.1: allow_out 10.0.0.0/8");
}

#[test]
fn names_matter_only_on_the_ports_that_have_some() {
    for (port, expected) in [(Some(443), true), (Some(22), true), (Some(80), false), (None, false)]
    {
        assert_eq!(policy(NAME).needs_names(ip("203.0.113.1"), port), expected, "{port:?}");
    }
    // UDP that could be QUIC is refused on all ports nevertheless.
    assert!(policy(NAME).has_domains());
}

#[test_case(NAME, "ok.test" => "virtual"; "an allowed name")]
#[test_case(NAME, "a.below.test" => "virtual, shared"; "a name below a wildcard")]
#[test_case(NAME, "other.test" => "refuse: default deny"; "another name")]
#[test_case(DENIED, "bad.test" => "forward"; "a name that is denied on one port still resolves")]
#[test_case(BOTH, "ok.test" => "forward"; "a name that is allowed on one port resolves")]
#[test_case(r#"{"deny_out": ["bad.test:443", "bad.test"]}"#, "bad.test" => "refuse: deny_out bad.test"; "a name that is denied on all ports")]
#[test_case(r#"{"deny_out": ["bad.test:1-65535"]}"#, "bad.test" => "forward"; "ping is not denied by a range of all ports")]
#[test_case(r#"{"allow_internet_access": false, "deny_out": ["bad.test:443"]}"#, "bad.test" => "refuse: deny_out bad.test:443"; "a denied port of a name that is not allowed")]
fn query(json: &str, asked: &str) -> String {
    match policy(json).evaluate_query(&asked.parse().expect("a name")) {
        QueryAction::Forward => "forward".to_owned(),
        QueryAction::Deny(rule) => format!("refuse: {rule}"),
        QueryAction::Virtual => "virtual".to_owned(),
        QueryAction::VirtualWildcard => "virtual, shared".to_owned(),
    }
}

#[test]
fn a_resolver_is_allowed_by_an_entry_with_port_53() {
    let rule = |json: &str| policy(json).allowed_resolver(ip("8.8.8.8")).map(|r| r.to_string());
    assert_eq!(rule(RANGE).as_deref(), Some("allow_out 8.8.8.8:53"));
    assert_eq!(rule(r#"{"allow_out": ["8.8.8.8:443"]}"#), None);
}

#[test]
fn a_known_address_of_a_denied_name_is_denied_on_the_ports_of_the_denial() {
    let known: DeniedAddresses =
        serde_json::from_str(r#"{"bad.test": ["203.0.113.9"], "worse.test": ["203.0.113.9"]}"#)
            .expect("the table is valid");
    let list = r#"{"deny_out": ["bad.test:443", "*.test:80", "worse.test"], "allow_out": ["worse.test:22"]}"#;
    let policy = policy(list).with_denied_addresses(&known);
    for (port, expected) in [
        (Some(443), "deny: deny_out bad.test:443 (203.0.113.9)"),
        (Some(80), "deny: deny_out *.test:80 (203.0.113.9)"),
        (Some(22), "allow 203.0.113.9: allow_internet_access"),
        (Some(81), "deny: deny_out worse.test (203.0.113.9)"),
        (None, "deny: deny_out worse.test (203.0.113.9)"),
    ] {
        assert_eq!(decide_at(&policy, "203.0.113.9", port, "", ""), expected);
        let rules = policy.address_rules();
        let rule = rules.first_match(ip("203.0.113.9"), port).expect("it is in a range");
        assert_eq!(rule.action == Action::Accept, expected.starts_with("allow"), "{port:?}");
    }
    assert_eq!(policy.denied_names().count(), 2);
}

/// The owner of the policy also owns the names and their addresses, and each set of ports is a set for nftables.
#[test]
fn with_many_sets_of_ports_known_addresses_are_denied_on_all_ports() {
    let names: Vec<String> = (10..26).map(|n| format!("n{n}.test")).collect();
    let allowed: Vec<String> =
        names.iter().zip(1..).map(|(name, port)| format!("{name}:{port}")).collect();
    let list = serde_json::json!({ "deny_out": names, "allow_out": allowed }).to_string();
    let addresses = (1..).map(|last| IpAddr::from([203, 0, 113, last]));
    let pairs = names.iter().map(|name| name.parse().expect("a name")).zip(addresses.clone());
    let known = DeniedAddresses::new(pairs).expect("they are few");
    let policy = policy(&list).with_denied_addresses(&known);
    let open = addresses.take(names.len()).zip(1..).map(|(address, port)| {
        assert!(!policy.evaluate_address(address, Some(1_000)).is_allowed(), "{address}");
        let rules = policy.address_rules();
        let rule = rules.first_match(address, Some(port)).expect("it is in a range");
        let allowed = policy.evaluate_address(address, Some(port)).is_allowed();
        assert_eq!(rule.action == Action::Accept, allowed, "{address} port {port}");
        allowed
    });
    assert_eq!(open.filter(|allowed| *allowed).count(), 7, "all ports are the 8th set");
}

#[test]
fn a_verdict_depends_on_the_port_if_a_port_changes_it() {
    let depends = |json: &str, address: &str| {
        policy(json).depends_on_port(&sandgate_policy::egress::ConnectionFacts {
            destination: &sandgate_policy::egress::Destination::Address(ip(address)),
            port: None,
            sni: sandgate_policy::egress::ShownName::Absent,
            host: sandgate_policy::egress::ShownName::Absent,
        })
    };
    assert!(depends(RANGE, "8.8.8.8") && !depends(RANGE, "8.8.8.9"));
    assert!(depends(DENIED, "203.0.113.9") && !depends(DENIED, "203.0.113.10"));
    assert!(!depends(NARROW, "203.0.113.9"), "the permit without a port comes first");
}

/// A set of ports as the union of the ports of entries.
fn set(texts: &[String]) -> Ports {
    texts.iter().map(|text| Entry::parse(text).expect("an entry").ports).collect()
}

fn texts() -> impl Strategy<Value = Vec<String>> {
    let some =
        (1_u16..30, 0_u16..6).prop_map(|(first, more)| format!("a:{first}-{}", first + more));
    let high = (65_530_u16..=65_535).prop_map(|first| format!("a:{first}-65535"));
    prop::collection::vec(prop_oneof![8 => some, 2 => high, 1 => Just("a".to_owned())], 0..5)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sets_of_ports_behave_like_sets(one in texts(), other in texts()) {
        let (one, other) = (set(&one), set(&other));
        let members = std::iter::once(None).chain((0..40).chain(65_520..=65_535).map(Some));
        for port in members {
            let (in_one, in_other) = (one.contains(port), other.contains(port));
            prop_assert_eq!(one.union(&other).contains(port), in_one || in_other);
            prop_assert_eq!(one.intersection(&other).contains(port), in_one && in_other);
            prop_assert_eq!(one.minus(&other).contains(port), in_one && !in_other);
        }
        prop_assert_eq!(one.union(&one), one.clone());
        prop_assert!(one.minus(&one).is_empty());
        prop_assert_eq!(Ports::all().minus(&Ports::all().minus(&one)), one.clone());
        prop_assert!(Ports::all().minus(&one).union(&one).is_all());
        // The ranges are sorted, and neither overlap nor touch.
        let sorted = one.ranges().is_sorted_by(|a, b| u32::from(a.1) + 1 < u32::from(b.0));
        prop_assert!(sorted, "{:?}", one);
    }
}
