//! The five rules, case by case. Each attack on an allow list is a row.

use test_case::test_case;

use super::{decide, network, operator, policy};
use sandgate_policy::egress::Policy;

const DEFAULT: &str = "{}";
const OFF: &str = r#"{"allow_internet_access": false}"#;
/// The contract's example.
const RANGES: &str = r#"{"allow_internet_access": false, "allow_out": ["10.0.0.0/8", "8.8.8.8"]}"#;
/// The contract's other example.
const DENIED: &str = r#"{"deny_out": ["example.com"]}"#;
const NAMES: &str = r#"{"allow_internet_access": false, "allow_out": ["ok.test", "*.ok.test"]}"#;
const MIXED: &str = r#"{
    "allow_internet_access": true,
    "allow_out": ["ok.test", "10.1.0.0/16"],
    "deny_out": ["bad.test", "*.bad.test", "8.8.8.0/24", "10.0.0.0/8"]
}"#;

#[test_case(DEFAULT, "8.8.8.8" => "allow 8.8.8.8: allow_internet_access"; "the internet is open")]
#[test_case(DEFAULT, "10.0.0.1" => "deny: not globally routable"; "private addresses are not globally routable")]
#[test_case(DEFAULT, "203.0.113.9" => "allow 203.0.113.9: allow_internet_access"; "an address that the operator declares globally routable")]
#[test_case(DEFAULT, "64:ff9b::cb00:7109" => "allow 64:ff9b::cb00:7109: allow_internet_access"; "such an address through nat64")]
#[test_case(DEFAULT, "::ffff:8.8.8.8" => "allow 8.8.8.8: allow_internet_access"; "a mapped address is dialled as ipv4")]
#[test_case(OFF, "8.8.8.8" => "deny: default deny"; "internet off")]
#[test_case(OFF, "2606:4700::1111" => "deny: default deny"; "internet off over ipv6")]
#[test_case(RANGES, "10.1.2.3" => "allow 10.1.2.3: allow_out 10.0.0.0/8"; "an allowed range")]
#[test_case(RANGES, "8.8.8.8" => "allow 8.8.8.8: allow_out 8.8.8.8"; "an allowed address")]
#[test_case(RANGES, "8.8.4.4" => "deny: default deny"; "another address")]
#[test_case(RANGES, "64:ff9b::808:808" => "allow 64:ff9b::808:808: allow_out 8.8.8.8"; "the allowed address through nat64")]
#[test_case(RANGES, "64:ff9b::808:404" => "deny: default deny"; "another through nat64")]
#[test_case(RANGES, "10.9.0.1" => "deny: guardrail 10.9.0.0/16"; "a guardrail inside an allowed range")]
#[test_case(MIXED, "8.8.8.8" => "deny: deny_out 8.8.8.0/24"; "a denied range")]
#[test_case(MIXED, "64:ff9b::808:808" => "deny: deny_out 8.8.8.0/24"; "a denied range through nat64")]
#[test_case(MIXED, "2002:808:808::5" => "deny: deny_out 8.8.8.0/24"; "a denied range through 6to4")]
#[test_case(MIXED, "10.1.0.1" => "allow 10.1.0.1: allow_out 10.1.0.0/16"; "allow comes before deny")]
#[test_case(MIXED, "10.2.0.1" => "deny: deny_out 10.0.0.0/8"; "a denied address that no allowed range contains")]
fn by_address(json: &str, address: &str) -> String {
    decide(&policy(json), address, "", "")
}

#[test_case(r#"{"allow_internet_access": false, "allow_out": ["::/0"]}"#, "2606:4700::1111" => "allow 2606:4700::1111: allow_out ::/0"; "all of ipv6")]
#[test_case(r#"{"allow_internet_access": false, "allow_out": ["::/0"]}"#, "64:ff9b::808:808" => "deny: default deny"; "all of ipv6 is not ipv4 through nat64")]
#[test_case(r#"{"allow_internet_access": false, "allow_out": ["64:ff9b::808:808/128"]}"#, "64:ff9b::808:808" => "allow 64:ff9b::808:808: allow_out 64:ff9b::808:808/128"; "an allowed nat64 address")]
#[test_case(r#"{"allow_internet_access": false, "allow_out": ["64:ff9b::808:808/128"]}"#, "8.8.8.8" => "deny: default deny"; "allowing a nat64 address does not allow the embedded address")]
#[test_case(r#"{"deny_out": ["::/0"]}"#, "64:ff9b::808:808" => "deny: deny_out ::/0"; "denying all of ipv6 denies nat64")]
#[test_case(r#"{"deny_out": ["::/0"]}"#, "8.8.8.8" => "allow 8.8.8.8: allow_internet_access"; "denying all of ipv6 does not deny ipv4")]
fn by_ipv6_range(json: &str, address: &str) -> String {
    decide(&policy(json), address, "", "")
}

#[test_case("203.0.113.1", "ok.test", "" => "allow by name ok.test: allow_out ok.test"; "sni of an allowed name")]
#[test_case("203.0.113.1", "", "ok.test:8080" => "allow by name ok.test: allow_out ok.test"; "host of an allowed name")]
#[test_case("203.0.113.1", "a.b.OK.test.", "" => "allow by name a.b.ok.test: allow_out *.ok.test"; "a name below, in another spelling")]
#[test_case("10.0.0.1", "ok.test", "" => "allow by name ok.test: allow_out ok.test"; "envoy connects to the name, whatever address the sandbox chose")]
#[test_case("169.254.169.254", "ok.test", "" => "deny: guardrail 169.254.0.0/16"; "a guardrail comes before a name")]
#[test_case("203.0.113.1", "", "" => "deny: default deny"; "attack: raw address, no name")]
#[test_case("203.0.113.1", "", "203.0.113.1" => "deny: default deny"; "attack: the address as host")]
#[test_case("203.0.113.1", "evil.test", "" => "deny: default deny"; "attack: another name")]
#[test_case("203.0.113.1", "ok.test", "evil.test" => "deny: default deny"; "attack: another host behind an allowed sni")]
#[test_case("203.0.113.1", "evil.test", "ok.test" => "deny: default deny"; "attack: another sni before an allowed host")]
#[test_case("203.0.113.1", "ok.test", "ok.test@evil.test" => "deny: Host not understood"; "attack: user information")]
#[test_case("203.0.113.1", "ok.test", "8.8.8.8" => "deny: default deny"; "attack: an address as host behind an allowed sni")]
#[test_case("203.0.113.1", "ok.test\0", "" => "deny: SNI not understood"; "attack: a zero byte after the name")]
#[test_case("203.0.113.1", "evilok.test", "" => "deny: default deny"; "attack: a name with the allowed name as suffix")]
#[test_case("203.0.113.1", "ok.test.evil.test", "" => "deny: default deny"; "attack: a name with the allowed name as prefix")]
#[test_case("203.0.113.1", "test", "" => "deny: default deny"; "attack: the parent")]
#[test_case("virtual ok.test", "", "" => "allow by name ok.test: allow_out ok.test"; "a virtual address needs no sni or host")]
#[test_case("virtual ok.test", "a.ok.test", "" => "allow by name ok.test: allow_out ok.test"; "envoy connects to the name of the virtual address, not to the sni")]
#[test_case("virtual ok.test", "evil.test", "" => "deny: default deny"; "attack: another sni to a virtual address")]
#[test_case("virtual ok.test", "", "evil.test" => "deny: default deny"; "attack: another host to a virtual address")]
#[test_case("virtual ok.test", "", "203.0.113.1" => "deny: default deny"; "attack: an address as host to a virtual address")]
#[test_case("virtual old.test", "", "" => "deny: default deny"; "a name that is not allowed any more")]
#[test_case("virtual old.test", "ok.test", "" => "deny: default deny"; "attack: an allowed sni to the virtual address of a name that is not allowed any more")]
#[test_case("virtual *", "x.ok.test", "" => "allow by name x.ok.test: allow_out *.ok.test"; "the shared address goes by sni")]
#[test_case("virtual *", "", "x.ok.test" => "allow by name x.ok.test: allow_out *.ok.test"; "the shared address goes by host")]
#[test_case("virtual *", "", "" => "deny: no name shown"; "the shared address without a name is denied")]
#[test_case("virtual *", "evil.test", "" => "deny: default deny"; "attack: another sni to the shared address")]
fn only_names_are_allowed(destination: &str, sni: &str, host: &str) -> String {
    decide(&policy(NAMES), destination, sni, host)
}

#[test_case(DENIED, "203.0.113.1", "example.com", "" => "deny: deny_out example.com"; "a denied sni")]
#[test_case(DENIED, "203.0.113.1", "", "EXAMPLE.com.:80" => "deny: deny_out example.com"; "a denied host in another spelling")]
#[test_case(DENIED, "203.0.113.1", "api.example.com", "" => "allow 203.0.113.1: allow_internet_access"; "a subdomain of a denied name")]
#[test_case(DENIED, "203.0.113.1", "good.test", "example.com" => "deny: deny_out example.com"; "attack: a good sni before a denied host")]
#[test_case(DENIED, "203.0.113.1", "example.com", "good.test" => "deny: deny_out example.com"; "attack: a good host behind a denied sni")]
#[test_case(DENIED, "203.0.113.1", "", "ex ample" => "deny: Host not understood"; "attack: an invalid host, which the server may parse in another way")]
#[test_case(DENIED, "203.0.113.1", "", "10.0.0.1" => "deny: not globally routable"; "attack: a private address as host")]
#[test_case(DENIED, "203.0.113.1", "", "8.8.8.8" => "allow 203.0.113.1: allow_internet_access"; "another public address as host")]
#[test_case(DENIED, "203.0.113.1", "", "" => "allow 203.0.113.1: allow_internet_access"; "known limit: a connection without a name is allowed")]
#[test_case(DENIED, "10.0.0.1", "good.test", "" => "deny: not globally routable"; "no name makes a private address public")]
#[test_case(MIXED, "10.1.0.1", "bad.test", "" => "allow 10.1.0.1: allow_out 10.1.0.0/16"; "an allowed address is allowed under any name")]
#[test_case(MIXED, "10.1.0.1", "", "b a d" => "allow 10.1.0.1: allow_out 10.1.0.0/16"; "an allowed address is allowed with an invalid host")]
#[test_case(MIXED, "8.8.8.8", "ok.test", "" => "allow by name ok.test: allow_out ok.test"; "an allowed name at a denied address")]
#[test_case(MIXED, "8.8.8.8", "ok.test", "bad.test" => "deny: deny_out 8.8.8.0/24"; "attack: an allowed sni with a denied host")]
#[test_case(MIXED, "203.0.113.1", "x.bad.test", "" => "deny: deny_out *.bad.test"; "below a denied name")]
#[test_case(MIXED, "203.0.113.1", "ok.test", "other.test" => "allow by name ok.test: allow_out ok.test"; "an allowed sni with a host that internet access allows")]
#[test_case(MIXED, "virtual other.test", "", "" => "allow by name other.test: allow_internet_access"; "a virtual address from the time before internet access was on")]
#[test_case(MIXED, "virtual bad.test", "", "" => "deny: deny_out bad.test"; "a virtual address of a denied name")]
#[test_case(DEFAULT, "8.8.8.8", "b a d", "10.0.0.1" => "allow 8.8.8.8: allow_internet_access"; "without rules about names sni and host are ignored")]
fn by_any_fact(json: &str, destination: &str, sni: &str, host: &str) -> String {
    decide(&policy(json), destination, sni, host)
}

#[test_case("10.1.0.1", "" => "deny: deny_out 10.0.0.0/8"; "deny comes first")]
#[test_case("8.8.8.8", "ok.test" => "deny: deny_out 8.8.8.0/24"; "a denied address with an allowed name")]
#[test_case("203.0.113.1", "ok.test" => "allow by name ok.test: allow_out ok.test"; "allowed name")]
#[test_case("203.0.113.1", "bad.test" => "deny: deny_out bad.test"; "denied name")]
fn deny_first(address: &str, sni: &str) -> String {
    let settings = r#"{"rule_order": "deny_first", "also_global": ["203.0.113.0/24"]}"#;
    decide(&Policy::new(&network(MIXED), &operator(settings)), address, sni, "")
}

#[test_case(DEFAULT, "8.8.8.8" => false; "no rule is about names")]
#[test_case(RANGES, "8.8.8.8" => false; "ranges only")]
#[test_case(NAMES, "203.0.113.1" => true; "a name could allow it")]
#[test_case(NAMES, "169.254.169.254" => false; "no name opens a guardrail")]
#[test_case(MIXED, "10.1.0.1" => false; "allowed already")]
#[test_case(MIXED, "10.2.0.1" => true; "denied, but a name could allow it")]
#[test_case(DENIED, "203.0.113.1" => true; "a name could deny it")]
fn needs_names(json: &str, address: &str) -> bool {
    policy(json).needs_names(super::ip(address), Some(443))
}
