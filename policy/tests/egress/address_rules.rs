//! The address rules for nftables, as text.

use sandgate_policy::egress::{Action, AddressRules};

use super::{ip, policy};

fn show(rules: &AddressRules, address: &str) -> String {
    let rule = rules.first_match(ip(address), Some(443)).expect("every address is in a range");
    let inspect = if rule.ports_with_names.contains(Some(443)) { ", names matter" } else { "" };
    format!("{:?} {}: {}{inspect}", rule.action, rule.range, rule.rule)
}

#[test]
fn the_contracts_allow_list() {
    let rules =
        policy(r#"{"allow_internet_access": false, "allow_out": ["10.0.0.0/8", "8.8.8.8"]}"#)
            .address_rules();
    for (address, expected) in [
        ("10.0.0.1", "Accept 10.0.0.0/8: allow_out 10.0.0.0/8"),
        ("8.8.8.8", "Accept 8.8.8.8/32: allow_out 8.8.8.8"),
        ("10.9.0.1", "Reject 10.9.0.0/16: guardrail 10.9.0.0/16"),
        ("1.1.1.1", "Reject 0.0.0.0/0: default deny"),
        ("2606:4700::1111", "Reject ::/0: default deny"),
        ("64:ff9b::808:808", "Accept 64:ff9b::808:808/128: allow_out 8.8.8.8"),
        ("2002:808:808::1", "Accept 2002:808:808::/48: allow_out 8.8.8.8"),
        ("64:ff9b::a9fe:a9fe", "Reject 64:ff9b::a9fe:0/112: guardrail 169.254.0.0/16"),
    ] {
        assert_eq!(show(&rules, address), expected);
    }
}

#[test]
fn a_denied_name_makes_names_matter_for_all_addresses_that_internet_access_allows() {
    let rules =
        policy(r#"{"deny_out": ["example.com"], "allow_out": ["10.0.0.0/8"]}"#).address_rules();
    for (address, expected) in [
        ("8.8.8.8", "Accept 0.0.0.0/0: allow_internet_access, names matter"),
        ("192.168.0.1", "Reject 192.168.0.0/16: not globally routable, names matter"),
        ("10.0.0.1", "Accept 10.0.0.0/8: allow_out 10.0.0.0/8"),
        ("127.0.0.1", "Reject 127.0.0.0/8: guardrail 127.0.0.0/8"),
    ] {
        assert_eq!(show(&rules, address), expected);
    }
}

#[test]
fn the_rules_for_envoys_connections_accept_public_addresses_and_allowed_addresses() {
    let policy = policy(
        r#"{"allow_internet_access": false, "allow_out": ["ok.test", "192.168.1.0/24"],
            "deny_out": ["203.0.113.66"]}"#,
    );
    for (address, expected) in [
        ("203.0.113.1", Action::Accept),
        // An allowed name may resolve to a denied address.
        ("203.0.113.66", Action::Accept),
        ("192.168.1.7", Action::Accept),
        ("192.168.2.7", Action::Reject),
        ("10.9.0.1", Action::Reject),
        ("169.254.169.254", Action::Reject),
        ("64:ff9b::a9fe:a9fe", Action::Reject),
    ] {
        let rules = policy.upstream_address_rules();
        assert_eq!(
            rules.first_match(ip(address), Some(443)).map(|rule| rule.action),
            Some(expected)
        );
        // Traffic without names only reaches the address that `allow_out` contains.
        let by_address = policy.address_rules();
        let accepted = by_address.first_match(ip(address), Some(443)).map(|rule| rule.action);
        assert_eq!(accepted == Some(Action::Accept), address == "192.168.1.7", "{address}");
    }
}
