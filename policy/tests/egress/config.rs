//! The filter's configuration: which documents are accepted, and which connections it allows during
//! an update.

use sandgate_policy::egress::ShownName;
use sandgate_policy::egress::config::EgressConfig;
use test_case::test_case;

use super::{ip, text};

const OFF: &str = r#"{"allow_internet_access": false}"#;
const NAMES: &str = r#"{"allow_internet_access": false, "allow_out": ["ok.test"]}"#;

fn config(policies: &str) -> EgressConfig {
    let json = format!(
        r#"{{"version": 1, "generation": 7, "policies": [{policies}], "virtual_addresses": {{
            "198.18.0.10": "OK.test.", "fd53:6700::10": "ok.test",
            "198.18.0.2": "*", "fd53:6700::2": "*"}}}}"#
    );
    EgressConfig::from_json(json.as_bytes()).expect("it is valid")
}

fn decide(config: &EgressConfig, address: &str, sni: &str) -> String {
    text(&config.decide(
        (ip(address), 443).into(),
        ShownName::from_sni(sni.as_bytes()),
        ShownName::Absent,
    ))
}

#[test_case("198.18.0.10", "" => "allow by name ok.test: allow_out ok.test"; "a virtual address")]
#[test_case("::ffff:198.18.0.10", "" => "allow by name ok.test: allow_out ok.test"; "an IPv4-mapped virtual address, as a dual-stack socket reports it")]
#[test_case("fd53:6700::10", "" => "allow by name ok.test: allow_out ok.test"; "an IPv6 virtual address")]
#[test_case("198.18.0.2", "" => "deny: no name shown"; "the shared virtual address")]
#[test_case("198.18.0.11", "ok.test" => "deny: guardrail 198.18.0.0/15"; "a virtual address without a meaning")]
#[test_case("8.8.8.8", "ok.test" => "allow by name ok.test: allow_out ok.test"; "a real address")]
fn destination(address: &str, sni: &str) -> String {
    assert_eq!(config(NAMES).generation(), 7);
    decide(&config(NAMES), address, sni)
}

#[test_case("{}", "8.8.8.8", "" => "allow 8.8.8.8: allow_internet_access"; "one member")]
#[test_case("{}, {\"allow_internet_access\": false}", "8.8.8.8", "" => "deny: default deny"; "the second denies")]
#[test_case("{\"allow_internet_access\": false}, {}", "8.8.8.8", "" => "deny: default deny"; "the first denies")]
#[test_case("{}, {}", "8.8.8.8", "" => "allow 8.8.8.8: allow_internet_access"; "both allow")]
#[test_case("{}, {\"allow_internet_access\": false, \"allow_out\": [\"ok.test\"]}", "8.8.8.8", "ok.test" => "allow by name ok.test: allow_out ok.test"; "the stricter route of the second")]
#[test_case("{\"allow_internet_access\": false, \"allow_out\": [\"ok.test\"]}, {}", "8.8.8.8", "ok.test" => "allow by name ok.test: allow_out ok.test"; "the stricter route of the first")]
fn all_members_must_allow(policies: &str, address: &str, sni: &str) -> String {
    decide(&config(policies), address, sni)
}

#[test]
fn names_matter_if_they_matter_to_any_policy() {
    assert!(!config(OFF).policies().needs_names(ip("8.8.8.8"), 443));
    assert!(config(&format!("{OFF}, {NAMES}")).policies().needs_names(ip("8.8.8.8"), 443));
}

#[test_case(r#"{"version":2,"generation":1,"policies":[{}]}"# => "the egress configuration's `version` is 2; this filter reads 1"; "version")]
#[test_case(r#"{"version":1,"generation":1,"policies":[]}"# => "the egress configuration's `policies` has 0 members; expected one or two"; "no policy")]
#[test_case(r#"{"version":1,"generation":1,"policies":[{},{},{}]}"# => "the egress configuration's `policies` has 3 members; expected one or two"; "three policies")]
#[test_case(r#"{"version":1,"generation":1,"policies":[{"allow_out":["a:0"]}]}"# => "the egress configuration is not valid: `allow_out[0]` (`a:0`) has no valid port after its `:`; expected a number from 1 to 65535, or a range like `8000-8100`, without leading zeros at line 1 column 62"; "a bad entry")]
#[test_case(r#"{"version":1,"generation":1,"policies":[{}],"virtual_addresses":{"8.8.8.8":"ok.test"}}"# => "the egress configuration's `virtual_addresses` contains 8.8.8.8; expected an address of 198.18.0.0/15 or fd53:6700::/64"; "a real address as a virtual one")]
#[test_case(r#"{"version":1,"generation":1,"policies":[{}],"virtual_addresses":{"198.18.0.1":"ok.test","198.18.0.2":"OK.test"}}"# => "the egress configuration's `virtual_addresses` contains 198.18.0.2 for `ok.test`, which already has another address"; "two addresses for one name")]
#[test_case(r#"{"version":1,"generation":1,"policies":[{}],"extra":1}"# => "the egress configuration is not valid: unknown field `extra`, expected one of `version`, `generation`, `policies`, `operator`, `virtual_addresses`, `denied_addresses` at line 1 column 51"; "an unknown field")]
#[test_case(r#"{"version":1,"generation":1}"# => "the egress configuration is not valid: missing field `policies` at line 1 column 28"; "no policies")]
#[test_case("" => "the egress configuration is not valid: EOF while parsing a value at line 1 column 0"; "nothing")]
fn is_refused(json: &str) -> String {
    EgressConfig::from_json(json.as_bytes()).expect_err("the table says so").to_string()
}
