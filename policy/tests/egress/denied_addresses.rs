//! The verdict about a connection to a known address of a denied name.

use sandgate_policy::egress::{DeniedAddresses, Policy, ShownName, config::EgressConfig};
use serde_json::json;
use test_case::test_case;

use super::{decide, ip, network, operator, text};

/// The known addresses. `bad.test` has an address of its own, an address of `allow_out`, an IPv6
/// address, and two addresses in guardrails.
const KNOWN: &str = r#"{
    "bad.test": ["203.0.113.9", "203.0.113.80", "2001:db8::9", "169.254.169.254", "10.9.0.1"],
    "x.below.test": ["64:ff9b::cb00:710a"],
    "fine.test": ["203.0.113.11"],
    "both.test": ["203.0.113.12"]
}"#;
const DENIED: &str = r#"{"deny_out": ["bad.test", "*.below.test", "both.test"], "allow_out": ["both.test", "203.0.113.80"]}"#;
const DENIED_RANGE: &str = r#"{"deny_out": ["203.0.113.200"]}"#;

#[track_caller]
fn with_denied_addresses(json: &str, order: &str) -> Policy {
    let settings = json!({
        "rule_order": order,
        "protected": ["10.9.0.0/16"], "also_global": ["203.0.113.0/24", "2001:db8::/32"],
    });
    let known: DeniedAddresses = serde_json::from_str(KNOWN).expect("the table is valid");
    Policy::new(&network(json), &operator(&settings.to_string())).with_denied_addresses(&known)
}

#[test_case("203.0.113.9", "", "" => "deny: deny_out bad.test (203.0.113.9)"; "attack: the raw address of a denied name")]
#[test_case("203.0.113.9", "", "203.0.113.9" => "deny: deny_out bad.test (203.0.113.9)"; "attack: the address as host")]
#[test_case("8.8.8.8", "", "203.0.113.9" => "deny: deny_out bad.test (203.0.113.9)"; "attack: the address as host of a connection to another address")]
#[test_case("2001:db8::9", "", "" => "deny: deny_out bad.test (2001:db8::9)"; "attack: over ipv6")]
#[test_case("::ffff:203.0.113.9", "", "" => "deny: deny_out bad.test (203.0.113.9)"; "attack: ipv4-mapped")]
#[test_case("64:ff9b::cb00:7109", "", "" => "deny: deny_out bad.test (203.0.113.9)"; "attack: through nat64")]
#[test_case("2002:cb00:7109::1", "", "" => "deny: deny_out bad.test (203.0.113.9)"; "attack: through 6to4")]
#[test_case("203.0.113.10", "", "" => "deny: deny_out *.below.test (203.0.113.10)"; "an address that is known as nat64 address")]
#[test_case("203.0.113.9", "bad.test", "" => "deny: deny_out bad.test"; "the denied name as sni")]
#[test_case("203.0.113.9", "good.test", "" => "allow 203.0.113.9: allow_internet_access"; "another site at the same address, by sni")]
#[test_case("203.0.113.9", "", "good.test" => "allow 203.0.113.9: allow_internet_access"; "another site at the same address, by host")]
#[test_case("203.0.113.9", "", "b a d" => "deny: Host not understood"; "an invalid host")]
#[test_case("203.0.113.9", "good.test", "203.0.113.9" => "deny: deny_out bad.test (203.0.113.9)"; "the policy must allow sni and host separately")]
#[test_case("203.0.113.9", "both.test", "" => "allow by name both.test: allow_out both.test"; "an allowed name")]
#[test_case("203.0.113.80", "", "" => "allow 203.0.113.80: allow_out 203.0.113.80"; "an address of allow_out")]
#[test_case("203.0.113.11", "", "" => "allow 203.0.113.11: allow_internet_access"; "the address of a name that is not denied")]
#[test_case("203.0.113.12", "", "" => "allow 203.0.113.12: allow_internet_access"; "the address of a name in both lists")]
#[test_case("169.254.169.254", "", "" => "deny: guardrail 169.254.0.0/16"; "a guardrail takes precedence")]
#[test_case("virtual both.test", "", "" => "allow by name both.test: allow_out both.test"; "a virtual address")]
fn allow_first(destination: &str, sni: &str, host: &str) -> String {
    decide(&with_denied_addresses(DENIED, "allow_first"), destination, sni, host)
}

#[test_case("203.0.113.80", "" => "deny: deny_out bad.test (203.0.113.80)"; "deny comes first")]
#[test_case("203.0.113.80", "good.test" => "allow 203.0.113.80: allow_out 203.0.113.80"; "a connection that shows another name")]
#[test_case("203.0.113.12", "" => "deny: deny_out both.test (203.0.113.12)"; "the address of a name in both lists with deny first")]
fn deny_first(destination: &str, sni: &str) -> String {
    decide(&with_denied_addresses(DENIED, "deny_first"), destination, sni, "")
}

#[test]
fn known_addresses_of_names_that_the_policy_does_not_deny_have_no_effect() {
    let policy = with_denied_addresses(DENIED_RANGE, "allow_first");
    assert_eq!(decide(&policy, "203.0.113.9", "", ""), "allow 203.0.113.9: allow_internet_access");
    assert!(!policy.needs_names(ip("203.0.113.9"), Some(443)));
}

#[test_case(DENIED, "allow_first" => vec!["bad.test"]; "no wildcards, and no names that allow_out allows first")]
#[test_case(DENIED, "deny_first" => vec!["bad.test", "both.test"]; "names in both lists, with deny first")]
#[test_case(r#"{"allow_internet_access": false, "deny_out": ["bad.test"]}"#, "allow_first" => Vec::<String>::new(); "none without internet access")]
#[test_case(r#"{"allow_internet_access": false, "deny_out": ["bad.test"]}"#, "deny_first" => vec!["bad.test"]; "without internet access, but with deny first")]
fn names_whose_addresses_matter(json: &str, order: &str) -> Vec<String> {
    with_denied_addresses(json, order).denied_names().map(ToString::to_string).collect()
}

#[test]
fn each_policy_of_a_configuration_applies_the_addresses_of_the_names_that_it_denies() {
    let json = json!({
        "version": 1, "generation": 1,
        "policies": [{ "deny_out": ["a.test"] }, { "deny_out": ["b.test"] }],
        "denied_addresses": { "a.test": ["8.8.8.1"], "b.test": ["8.8.8.2"], "c.test": ["8.8.8.3"] },
    });
    let config = EgressConfig::from_json(json.to_string().as_bytes()).expect("it is valid");
    let decide = |address| {
        text(&config.decide((ip(address), 443).into(), ShownName::Absent, ShownName::Absent))
    };
    assert_eq!(decide("8.8.8.1"), "deny: deny_out a.test (8.8.8.1)");
    assert_eq!(decide("8.8.8.2"), "deny: deny_out b.test (8.8.8.2)");
    assert_eq!(decide("8.8.8.3"), "allow 8.8.8.3: allow_internet_access");
}

#[test]
fn the_number_of_pairs_is_bounded() {
    let pairs = |count: u32| {
        (0..count).map(|bits| {
            ("bad.test".parse().expect("a name"), std::net::Ipv4Addr::from(bits).into())
        })
    };
    let most = u32::try_from(DeniedAddresses::MAX).expect("it is small");
    assert!(DeniedAddresses::new(pairs(most)).is_ok());
    let error = DeniedAddresses::new(pairs(most + 1)).expect_err("one too many");
    assert_eq!(
        error.to_string(),
        "there are 2049 addresses of denied names; at most 2048 are allowed"
    );
}
