//! The globally routable addresses by IANA's registries, and the guardrails that no policy opens.

use sandgate_policy::egress::{NetworkPolicy, OperatorSettings, Policy, guardrail};
use test_case::test_case;

use super::{decide, ip, policy};

#[test_case("8.8.8.8" => true)]
#[test_case("1.0.0.0" => true)]
#[test_case("9.255.255.255" => true; "just before 10/8")]
#[test_case("10.0.0.0" => false)]
#[test_case("10.255.255.255" => false)]
#[test_case("11.0.0.0" => true; "just after 10/8")]
#[test_case("100.63.255.255" => true)]
#[test_case("100.64.0.0" => false; "shared address space")]
#[test_case("100.127.255.255" => false)]
#[test_case("100.128.0.0" => true)]
#[test_case("172.15.255.255" => true)]
#[test_case("172.16.0.1" => false)]
#[test_case("172.31.255.255" => false)]
#[test_case("172.32.0.0" => true)]
#[test_case("192.0.0.1" => false; "protocol assignments")]
#[test_case("192.0.0.9" => true; "PCP anycast")]
#[test_case("192.0.0.10" => true; "TURN anycast")]
#[test_case("192.0.2.1" => false)]
#[test_case("192.31.196.1" => true; "AS112")]
#[test_case("192.52.193.1" => true; "AMT")]
#[test_case("192.88.99.1" => false; "6to4 relays")]
#[test_case("192.168.0.1" => false)]
#[test_case("192.175.48.1" => true; "AS112 direct delegation")]
#[test_case("198.18.0.1" => false)]
#[test_case("198.20.0.0" => true)]
#[test_case("198.51.100.1" => false)]
#[test_case("203.0.113.1" => false)]
#[test_case("223.255.255.255" => true)]
#[test_case("224.0.0.1" => false)]
#[test_case("240.0.0.1" => false)]
#[test_case("255.255.255.255" => false)]
#[test_case("2001:4860:4860::8888" => true)]
#[test_case("2606:4700::1111" => true)]
#[test_case("::1" => false)]
#[test_case("::" => false)]
#[test_case("::8.8.8.8" => false; "ipv4-compatible")]
#[test_case("::ffff:8.8.8.8" => true; "mapped, global inside")]
#[test_case("::ffff:10.0.0.1" => false; "mapped, private inside")]
#[test_case("64:ff9b::808:808" => true; "nat64, global inside")]
#[test_case("64:ff9b::a00:1" => false; "nat64, private inside")]
#[test_case("64:ff9b:1::808:808" => false; "local nat64")]
#[test_case("2002:808:808::1" => true; "6to4, global inside")]
#[test_case("2002:a00:1::1" => false; "6to4, private inside")]
#[test_case("100::1" => false; "discard")]
#[test_case("2001::1" => false; "teredo")]
#[test_case("2001:1::1" => true; "PCP anycast v6")]
#[test_case("2001:1::4" => false; "beside the anycast addresses")]
#[test_case("2001:2::1" => false; "benchmarking")]
#[test_case("2001:3::1" => true; "AMT v6")]
#[test_case("2001:4:112::1" => true; "AS112 v6")]
#[test_case("2001:10::1" => false; "old ORCHID")]
#[test_case("2001:20::1" => true; "ORCHIDv2")]
#[test_case("2001:db8::1" => false)]
#[test_case("3fff::1" => false; "documentation")]
#[test_case("4000::1" => false; "not allocated")]
#[test_case("5f00::1" => false)]
#[test_case("fc00::1" => false)]
#[test_case("fd12:3456::1" => false)]
#[test_case("fe80::1" => false)]
#[test_case("ff02::1" => false)]
fn is_global(address: &str) -> bool {
    Policy::new(&NetworkPolicy::default(), &OperatorSettings::default()).is_global(ip(address))
}

#[test_case("169.254.169.254" => "deny: guardrail 169.254.0.0/16"; "metadata")]
#[test_case("::ffff:169.254.169.254" => "deny: guardrail 169.254.0.0/16"; "metadata, mapped")]
#[test_case("64:ff9b::a9fe:a9fe" => "deny: guardrail 169.254.0.0/16"; "metadata through nat64")]
#[test_case("2002:a9fe:a9fe::" => "deny: guardrail 169.254.0.0/16"; "metadata through 6to4")]
#[test_case("64:ff9b:1::a9fe:a9fe" => "deny: guardrail 64:ff9b:1::/48"; "metadata through a local nat64")]
#[test_case("::169.254.169.254" => "deny: guardrail ::/96"; "metadata, ipv4-compatible")]
#[test_case("fd00:ec2::254" => "deny: guardrail fd00:ec2::254/128"; "metadata v6")]
#[test_case("168.63.129.16" => "deny: guardrail 168.63.129.16/32"; "a platform's wire server")]
#[test_case("127.0.0.1" => "deny: guardrail 127.0.0.0/8"; "loopback")]
#[test_case("0.0.0.0" => "deny: guardrail 0.0.0.0/8"; "unspecified")]
#[test_case("224.0.0.251" => "deny: guardrail 224.0.0.0/4"; "multicast")]
#[test_case("ff02::fb" => "deny: guardrail ff00::/8"; "multicast v6")]
#[test_case("fe80::1" => "deny: guardrail fe80::/10"; "link-local v6")]
#[test_case("198.18.0.10" => "deny: guardrail 198.18.0.0/15"; "a virtual address without a meaning")]
#[test_case("fd53:6700::10" => "deny: guardrail fd53:6700::/64"; "a virtual address v6 without a meaning")]
#[test_case("10.9.1.1" => "deny: guardrail 10.9.0.0/16"; "the operator's own")]
#[test_case("2002:a09:101::1" => "deny: guardrail 10.9.0.0/16"; "the operator's own through 6to4")]
fn no_policy_opens(address: &str) -> String {
    let all = r#"{"allow_out": ["0.0.0.0/0", "::/0", "64:ff9b::/96", "2002::/16"]}"#;
    decide(&policy(all), address, "", "")
}

#[test]
fn every_guardrail_denies_at_both_its_ends() {
    let all = policy(r#"{"allow_out": ["0.0.0.0/0", "::/0"]}"#);
    for range in guardrail::FIXED {
        for address in [range.network(), range.broadcast()] {
            assert!(decide(&all, &address.to_string(), "", "").starts_with("deny"), "{address}");
        }
    }
}

#[test]
fn also_global_takes_precedence_over_longer_prefixes_of_the_table() {
    let operator = super::operator(r#"{"also_global": ["0.0.0.0/0"]}"#);
    let policy = Policy::new(&NetworkPolicy::default(), &operator);
    for address in ["10.0.0.5", "192.0.2.1", "64:ff9b::a00:5"] {
        assert!(policy.is_global(ip(address)), "{address}");
    }
    // It does not open a guardrail.
    assert!(decide(&policy, "169.254.169.254", "", "").starts_with("deny: guardrail"));
    assert!(!policy.is_global(ip("fd12:3456::1")));
}
