//! Verdicts about DNS queries, and about addresses that allowed names resolve to.

use sandgate_policy::egress::{Name, Policy, QueryAction};
use test_case::test_case;

use super::{ip, network, operator, policy, text};

const OFF: &str = r#"{"allow_internet_access": false}"#;
const RANGES: &str = r#"{"allow_internet_access": false, "allow_out": ["10.0.0.0/8", "8.8.8.8"]}"#;
const NAMES: &str = r#"{
    "allow_internet_access": false, "allow_out": ["ok.test", "*.ok.test", "10.0.0.0/8"],
    "deny_out": ["no.ok.test", "203.0.113.66"]
}"#;
const ON: &str = r#"{"allow_out": ["ok.bad.test"], "deny_out": ["bad.test", "*.bad.test"]}"#;

fn show(lookup: &QueryAction) -> String {
    match lookup {
        QueryAction::Forward => "forward".to_owned(),
        QueryAction::Deny(rule) => format!("refuse: {rule}"),
        QueryAction::Virtual => "virtual".to_owned(),
        QueryAction::VirtualWildcard => "virtual, shared".to_owned(),
    }
}

fn name(text: &str) -> Name {
    text.parse().expect("the table's name is valid")
}

#[test_case("{}", "example.com" => "forward"; "internet on, no rules")]
#[test_case(OFF, "example.com" => "refuse: default deny"; "internet off")]
#[test_case(RANGES, "example.com" => "refuse: default deny"; "internet off, ranges only")]
#[test_case(NAMES, "ok.test" => "virtual"; "an allowed name has its own address")]
#[test_case(NAMES, "a.b.ok.test" => "virtual, shared"; "a name that a wildcard allows has the shared address")]
#[test_case(NAMES, "no.ok.test" => "virtual, shared"; "allow comes before deny")]
#[test_case(NAMES, "evil.test" => "refuse: default deny"; "another name")]
#[test_case(ON, "example.com" => "forward"; "internet on")]
#[test_case(ON, "bad.test" => "refuse: deny_out bad.test"; "a denied name")]
#[test_case(ON, "x.bad.test" => "refuse: deny_out *.bad.test"; "below a denied name")]
#[test_case(ON, "ok.bad.test" => "forward"; "an exception")]
fn query(json: &str, asked: &str) -> String {
    show(&policy(json).evaluate_query(&name(asked)))
}

#[test_case(RANGES, "example.com" => "forward"; "any name")]
#[test_case(NAMES, "ok.test" => "virtual"; "an allowed name works with any protocol")]
#[test_case(ON, "bad.test" => "refuse: deny_out bad.test"; "a denied name")]
fn query_to_an_allowed_resolver(json: &str, asked: &str) -> String {
    show(&policy(json).evaluate_query_to_allowed_resolver(&name(asked)))
}

#[test_case(RANGES, "8.8.8.8" => Some("allow_out 8.8.8.8".to_owned()); "an allowed address")]
#[test_case(RANGES, "8.8.4.4" => None; "another address")]
#[test_case(RANGES, "10.9.0.53" => None; "a guardrail in an allowed range")]
#[test_case("{}", "8.8.8.8" => None; "internet access alone does not allow another resolver")]
fn allowed_resolver(json: &str, address: &str) -> Option<String> {
    policy(json).allowed_resolver(ip(address)).map(|rule| rule.to_string())
}

#[test_case("ok.test", "203.0.113.1" => "allow by name ok.test: allow_out ok.test"; "a public address")]
#[test_case("ok.test", "192.168.0.1" => "deny: not globally routable"; "attack: rebound to a private address")]
#[test_case("ok.test", "169.254.169.254" => "deny: guardrail 169.254.0.0/16"; "attack: rebound to the metadata service")]
#[test_case("ok.test", "10.9.0.1" => "deny: guardrail 10.9.0.0/16"; "attack: rebound to the operator's network")]
#[test_case("ok.test", "64:ff9b::c0a8:1" => "deny: not globally routable"; "attack: a private address through nat64")]
#[test_case("ok.test", "10.0.0.1" => "allow 10.0.0.1: allow_out 10.0.0.0/8"; "a private address of allow_out")]
#[test_case("ok.test", "203.0.113.66" => "allow by name ok.test: allow_out ok.test"; "a denied address of an allowed name")]
#[test_case("evil.test", "203.0.113.1" => "deny: default deny"; "a name that is not allowed")]
fn resolved_address(dialled: &str, address: &str) -> String {
    text(&policy(NAMES).evaluate_resolved(&name(dialled), ip(address), Some(443)))
}

#[test]
fn a_denied_address_of_an_allowed_name_is_denied_if_deny_comes_first() {
    let settings = r#"{"rule_order": "deny_first", "also_global": ["203.0.113.0/24"]}"#;
    let policy = Policy::new(&network(NAMES), &operator(settings));
    let verdict = policy.evaluate_resolved(&name("ok.test"), ip("203.0.113.66"), Some(443));
    assert_eq!(text(&verdict), "deny: deny_out 203.0.113.66");
    assert_eq!(show(&policy.evaluate_query(&name("no.ok.test"))), "refuse: deny_out no.ok.test");
}
