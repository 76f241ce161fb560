//! Tests of the conversion of DNS names to the policy's form.

use hickory_proto::rr as dns;
use test_case::test_case;

use super::*;

#[test_case(&[b"Ok", b"TEST"], "ok.test"; "in lower case")]
#[test_case(&[b"_dmarc", b"ok", b"test"], "_dmarc.ok.test"; "underscores are plain")]
#[test_case(&[b"\x01\xff", b"bad", b"test"], "-.bad.test"; "bytes that are no characters")]
#[test_case(&[b"a.b", b"test"], "-.test"; "a dot inside a label splits nothing")]
#[test_case(&[b"*", b"ok", b"test"], "-.ok.test"; "an asterisk is no wildcard")]
#[test_case(&[b"127", b"1"], "127.-"; "what looks like an address")]
#[test_case(&[b"0x7f"], "-"; "or like a part of one")]
#[test_case(&[], "-"; "the root")]
fn a_label_of_which_no_rule_can_speak_hides_no_other(labels: &[&[u8]], expected: &str) {
    let name = dns::Name::from_labels(labels.iter().copied()).unwrap();
    assert_eq!(policy_name(&name).unwrap().as_str(), expected);
}

#[test]
fn the_longest_name_can_be_judged() {
    for byte in [b'a', 0xff] {
        let (label, last) = ([byte; 63], [byte; 61]);
        let name = dns::Name::from_labels([&label[..], &label, &label, &last]).unwrap();
        assert_eq!(name.len(), 254);
        assert!(policy_name(&name).is_some());
    }
}

fn generation(policy: serde_json::Value) -> Generation {
    let policy = Policy::new(
        &serde_json::from_value(policy).unwrap(),
        &sandgate_policy::egress::OperatorSettings::default(),
    );
    Generation::new(1, Arc::new(policy), None, [])
}

#[test]
fn a_name_resolves_if_the_policy_allows_it_on_a_port() {
    let generation = generation(serde_json::json!({
        "allow_internet_access": false,
        "allow_out": ["ok.test:443", "10.0.0.5:5432"], "deny_out": ["ok.test"],
    }));
    let name = |text: &str| dns::Name::from_ascii(text).unwrap();
    let (ok, other) = (name("ok.test."), name("other.test."));
    assert_eq!(generation.decide_query(&ok, false), QueryDecision::Virtual);
    assert_eq!(generation.decide_query(&other, false), QueryDecision::Deny(Rule::Default));
    assert_eq!(generation.decide_envoy_query(&ok), Ok(()));
    assert_eq!(generation.decide_envoy_query(&other), Err(Rule::Default));
    let reaches = |address: &str| generation.allows_resolved(&ok, address.parse().unwrap());
    assert!(reaches("8.8.8.8"));
    // nftables accepts this address only on its port.
    assert!(reaches("10.0.0.5"));
    assert!(!reaches("10.0.0.6") && !reaches("169.254.169.254"));
}

#[test]
fn a_name_that_is_denied_on_some_ports_only_may_be_the_target_of_an_alias() {
    let generation =
        generation(serde_json::json!({ "deny_out": ["some.test:25", "all.test", "all.test:25"] }));
    let denied = |text: &str| generation.denied(&dns::Name::from_ascii(text).unwrap());
    assert_eq!(denied("some.test."), None);
    assert_eq!(denied("all.test.").unwrap().to_string(), "deny_out all.test");
}
