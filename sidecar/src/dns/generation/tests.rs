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
