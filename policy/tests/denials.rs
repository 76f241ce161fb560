//! What an event shows of a name that a sandbox chose.

use sandgate_policy::denials::{
    InboundDenial, MAX_DESTINATION, MAX_RULE, OutboundDenial, Protocol, shown_name,
};
use test_case::test_case;

#[test_case("elsewhere.test", "elsewhere.test"; "a name")]
#[test_case("Elsewhere.TEST", "elsewhere.test"; "letters in upper case")]
#[test_case("*.x_y-z.test:443", "*.x_y-z.test:443"; "a wildcard and a port")]
#[test_case("[2001:db8::1]", "[2001:db8::1]"; "an address")]
#[test_case("a\x1b[31mb\x07.test", "a?[31mb?.test"; "a terminal escape")]
#[test_case("a\r\nb\0.test", "a??b?.test"; "control characters")]
#[test_case("a\u{202e}tset.b", "a???tset.b"; "a change of direction")]
#[test_case("\u{440}\u{430}ypal.test", "????ypal.test"; "letters that look like others")]
#[test_case("user:pass@a.test/p?token=1#f", "user:pass?a.test?p?token?1?f"; "a url")]
#[test_case("", ""; "nothing")]
fn a_name_is_shown_with_harmless_characters(name: &str, shown: &str) {
    assert_eq!(shown_name(name.as_bytes()), shown);
}

#[test]
fn bytes_that_are_no_text_are_shown_as_question_marks() {
    assert_eq!(shown_name(&[b'a', 0xff, 0x80, b'b', 0x9b]), "a??b?");
}

#[test]
fn an_overlong_name_and_rule_end_visibly() {
    let long = "x".repeat(100_000);
    let denial = OutboundDenial {
        destination: long.clone(),
        name: Some("y".repeat(100_000)),
        port: None,
        protocol: Protocol::Dns,
        rule: long.clone(),
    };
    let cleaned = denial.cleaned();
    assert!(cleaned.name.as_deref().is_some_and(|name| name.len() == MAX_DESTINATION));
    assert_eq!((cleaned.destination.len(), cleaned.rule.len()), (MAX_DESTINATION, MAX_RULE));
    assert!(cleaned.destination.ends_with("x...") && cleaned.rule.ends_with("x..."));
}

/// The attack: an edge, or whoever has its token, writes text into the events of a sandbox.
#[test_case("PORT_NOT_EXPOSED", "PORT_NOT_EXPOSED"; "a code")]
#[test_case("port_not_exposed", "UNKNOWN"; "a code in lower case")]
#[test_case("PORT_NOT_EXPOSED ", "UNKNOWN"; "a code and more")]
#[test_case("call 555-0100 to unlock your sandbox", "UNKNOWN"; "a sentence")]
#[test_case("\x1b[31m", "UNKNOWN"; "a terminal escape")]
#[test_case("", "UNKNOWN"; "nothing")]
fn the_rule_of_a_denied_request_is_a_code(rule: &str, shown: &str) {
    assert_eq!(InboundDenial { port: 80, rule: rule.to_owned() }.cleaned().rule, shown);
}
