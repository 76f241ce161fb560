//! Connections without a name to the known address of a denied name are denied. Connections that show
//! another name continue.

use sandgate_wasm_host::{Connected, Outcome};
use serde_json::{Value, json};

use crate::hello::hello;
use crate::support::{Egress, configuration, denied, deny_list, forwarded, refused, to_address};

/// `bad.test` and something else are at 8.8.8.8.
fn known(generation: u64, policy: Value) -> Value {
    let mut configuration = configuration(generation, &[policy]);
    configuration["denied_addresses"] = json!({ "bad.test": ["8.8.8.8", "2606:4700::1111"] });
    configuration
}

fn with_denied_addresses() -> Egress {
    let egress = Egress::unconfigured();
    egress.configure(&known(1, deny_list()));
    egress
}

#[test]
fn a_connection_without_a_name_is_denied_and_one_with_another_name_is_not() {
    let egress = with_denied_addresses();
    for (address, at) in [
        ("8.8.8.8:22", "8.8.8.8"),
        ("8.8.8.8:443", "8.8.8.8"),
        ("[::ffff:8.8.8.8]:443", "8.8.8.8"),
        ("[64:ff9b::808:808]:443", "8.8.8.8"),
        ("[2606:4700::1111]:25", "2606:4700::1111"),
    ] {
        let rule = denied(&egress.connect(address, ""));
        assert_eq!(rule, format!("deny_out bad.test ({at})"));
    }
    assert_eq!(egress.decisions("tcp.deny.deny_out"), 5, "counted with the entries of deny_out");
    let other = egress.connect("8.8.8.8:443", "good.test");
    assert_eq!(other.outcome(), to_address("8.8.8.8:443"));
    assert_eq!(egress.connect("8.8.8.9:443", "").outcome(), to_address("8.8.8.9:443"));
}

#[test]
fn a_request_by_address_is_denied_and_one_for_another_site_is_not() {
    let egress = with_denied_addresses();
    assert_eq!(refused(&egress.get("8.8.8.8:80", "8.8.8.8")), "deny_out bad.test (8.8.8.8)");
    assert_eq!(refused(&egress.get("8.8.8.8:80", "")), "deny_out bad.test (8.8.8.8)");
    assert_eq!(forwarded(&egress.get("8.8.8.8:80", "good.test")), "8.8.8.8:80");
}

#[test]
fn a_live_stream_without_a_name_is_closed_when_its_address_becomes_known() {
    let egress = Egress::with(deny_list());
    let connect = |sni: &str| {
        let connection = egress.connect("8.8.8.8:443", sni);
        connection.set_attribute("upstream.address", "8.8.8.8:443");
        connection
    };
    let (nameless, named, late) = (connect(""), connect("good.test"), connect(""));
    let elsewhere = egress.connect("8.8.8.9:443", "");
    late.send(&hello("good.test"), false);
    let (raw, request) =
        (egress.get("8.8.8.8:80", "8.8.8.8"), egress.get("8.8.8.8:80", "good.test"));
    egress.configure(&known(2, deny_list()));
    assert_eq!(nameless.outcome(), Connected::Closed);
    assert_eq!(nameless.property("sandgate_rule").as_deref(), Some("deny_out bad.test (8.8.8.8)"));
    assert_eq!(raw.outcome(), Outcome::Reset);
    assert!(named.is_open() && late.is_open() && elsewhere.is_open() && request.is_open());
}

#[test]
fn a_live_stream_with_a_name_continues_when_a_new_policy_allows_that_name_by_another_route() {
    let egress = Egress::unconfigured();
    egress.configure(&known(1, deny_list()));
    let named = egress.connect("8.8.8.8:443", "good.test");
    named.set_attribute("upstream.address", "8.8.8.8:443");
    let mut policy = deny_list();
    policy["allow_out"] = json!(["good.test"]);
    egress.configure(&known(2, policy));
    assert!(named.is_open());
}

#[test]
fn invalid_denied_addresses_are_refused() {
    let egress = with_denied_addresses();
    for bad in [
        json!({ "bad.test": ["8.8.8.0/24"] }),
        json!({ "bad..test": ["8.8.8.8"] }),
        json!({ "bad.test": "8.8.8.8" }),
        json!(["8.8.8.8"]),
    ] {
        let mut configuration = known(2, deny_list());
        configuration["denied_addresses"] = bad;
        let refused = egress.host.configure_root(crate::support::TCP, &configuration.to_string());
        assert!(refused.is_err(), "{configuration}");
    }
    assert_eq!(denied(&egress.connect("8.8.8.8:22", "")), "deny_out bad.test (8.8.8.8)");
}
