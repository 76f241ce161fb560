//! A new policy closes exactly the live streams that it denies.

use std::time::Duration;

use sandgate_wasm_host::{Connected, Outcome};
use serde_json::{Value, json};

use crate::hello::hello;
use crate::support::{Egress, OK, WILDCARD, allow_list, configuration, deny_list, forwarded};

fn change(egress: &Egress, generation: u64, policy: Value) {
    egress.configure(&configuration(generation, &[policy]));
}

#[test]
fn a_new_policy_closes_the_connections_that_it_denies_and_no_others() {
    let egress = Egress::with(allow_list());
    let by_address = egress.connect("10.1.2.3:22", "");
    let by_name = egress.connect(&format!("{OK}:22"), "");
    let by_wildcard = egress.connect(&format!("{WILDCARD}:443"), "a.ok.test");
    let denied_already = egress.connect("8.8.8.8:443", "");
    change(&egress, 2, json!({"allow_internet_access": false, "allow_out": ["ok.test"]}));
    assert_eq!(by_address.outcome(), Connected::Closed);
    assert_eq!(by_address.property("sandgate_decision").as_deref(), Some("closed"));
    assert_eq!(by_address.property("sandgate_rule").as_deref(), Some("default deny"));
    assert_eq!(by_address.property("sandgate_generation").as_deref(), Some("2"));
    assert_eq!(by_wildcard.outcome(), Connected::Closed);
    assert!(by_name.is_open());
    assert!(denied_already.is_open(), "Envoy resets it");
    assert_eq!(egress.host.metric("sandgate_egress_closed_total.tcp"), 2);
    assert_eq!(by_name.send(b"more\n", false), b"more\n");
}

#[test]
fn live_requests_are_reset_and_the_next_request_is_decided_by_the_new_policy() {
    let egress = Egress::with(allow_list());
    let upload = egress.get(&format!("{OK}:80"), "ok.test");
    let other = egress.get("10.1.2.3:80", "ok.test");
    forwarded(&upload);
    change(&egress, 2, json!({"allow_internet_access": false, "allow_out": ["10.0.0.0/8"]}));
    assert_eq!(upload.outcome(), Outcome::Reset);
    assert!(other.is_open());
    assert_eq!(egress.host.metric("sandgate_egress_closed_total.http"), 1);
    crate::support::refused(&egress.get(&format!("{OK}:80"), "ok.test"));
}

#[test]
fn a_change_that_still_allows_the_streams_closes_none() {
    let egress = Egress::with(allow_list());
    let connections = [
        egress.connect("10.1.2.3:22", ""),
        egress.connect(&format!("{OK}:22"), ""),
        egress.connect(&format!("{WILDCARD}:443"), "a.ok.test"),
        egress.connect("203.0.113.9:443", "ok.test"),
    ];
    let request = egress.get(&format!("{OK}:80"), "ok.test");
    // First both policies, as during an update; then the less strict one; then the same by other rules.
    let open = json!({"allow_out": ["10.0.0.0/8"], "deny_out": ["bad.test"]});
    egress.configure(&configuration(2, &[allow_list(), open.clone()]));
    change(&egress, 3, open);
    change(&egress, 4, json!({"allow_out": ["10.1.0.0/16"]}));
    for (number, connection) in connections.iter().enumerate() {
        // The last connection went by a name that Envoy resolves, from an address that is not globally
        // routable.
        assert!(connection.is_open() || number == 3, "connection {number}");
    }
    assert!(request.is_open());
}

#[test]
fn a_connection_to_an_address_is_closed_if_the_new_policy_allows_only_its_name() {
    let egress = Egress::with(json!({}));
    let connection = egress.connect("8.8.8.8:443", "ok.test");
    let nameless = egress.connect("8.8.8.8:443", "");
    change(&egress, 2, allow_list());
    assert_eq!(connection.outcome(), Connected::Closed, "nothing shows that 8.8.8.8 is ok.test");
    assert_eq!(nameless.outcome(), Connected::Closed);
}

#[test]
fn a_connection_by_name_is_reevaluated_by_the_address_it_is_connected_to() {
    let egress = Egress::with(allow_list());
    let public = egress.connect(&format!("{OK}:443"), "");
    public.set_attribute("upstream.address", "8.8.8.8:443");
    let protected = egress.connect(&format!("{OK}:443"), "");
    protected.set_attribute("upstream.address", "11.1.1.1:443");
    let mut next = configuration(2, &[allow_list()]);
    next["operator"]["protected"] = json!(["11.0.0.0/8"]);
    egress.configure(&next);
    assert!(public.is_open());
    assert_eq!(protected.outcome(), Connected::Closed);
}

#[test]
fn a_virtual_address_that_changes_its_name_closes_the_connections_to_the_old_name() {
    let egress = Egress::with(allow_list());
    let connection = egress.connect(&format!("{OK}:22"), "");
    let policy = json!({"allow_internet_access": false, "allow_out": ["other.test"]});
    let mut next = configuration(2, &[policy]);
    next["virtual_addresses"] = json!({ OK: "other.test" });
    egress.configure(&next);
    assert_eq!(connection.outcome(), Connected::Closed);
}

#[test]
fn late_names_count_when_the_policy_changes() {
    let egress = Egress::with(deny_list());
    let connection = egress.connect("8.8.8.8:443", "");
    connection.send(&hello("later.test"), false);
    let other = egress.connect("8.8.8.8:443", "");
    other.send(&hello("other.test"), false);
    change(&egress, 2, json!({"deny_out": ["later.test"]}));
    assert_eq!(connection.outcome(), Connected::Closed);
    assert!(other.is_open());
}

#[test]
fn held_bytes_are_decided_by_the_policy_that_is_active_when_they_are_complete() {
    let egress = Egress::with(deny_list());
    let connection = egress.connect("8.8.8.8:443", "");
    let bytes = hello("good.test");
    assert_eq!(connection.send(&bytes[..50], false), b"");
    change(&egress, 2, json!({"deny_out": ["good.test"]}));
    assert!(connection.is_open());
    assert_eq!(connection.send(&bytes[50..], false), b"");
    assert_eq!(connection.outcome(), Connected::Closed);
}

#[test]
fn ended_streams_are_not_closed_again() {
    let egress = Egress::with(allow_list());
    let connection = egress.connect("10.1.2.3:22", "");
    let request = egress.get("10.1.2.3:80", "a.test");
    connection.leave();
    request.complete();
    // The host fails the test if the filter closes either.
    change(&egress, 2, json!({"allow_internet_access": false}));
    assert_eq!(connection.outcome(), Connected::Left);
}

#[test]
fn thousands_of_streams_are_reevaluated_within_half_a_second() {
    let egress = Egress::with(allow_list());
    let connections: Vec<_> = (0..2_000)
        .map(|number| {
            let address = format!("10.{}.1.1:22", 1 + number % 2);
            egress.connect(&address, "")
        })
        .collect();
    change(&egress, 2, json!({"allow_internet_access": false, "allow_out": ["10.1.0.0/16"]}));
    egress.host.advance(Duration::from_millis(500));
    let open = connections.iter().filter(|connection| connection.is_open()).count();
    assert_eq!(open, 1_000);
    assert_eq!(egress.host.metric("sandgate_egress_closed_total.tcp"), 1_000);
}

#[test]
fn a_change_during_a_reevaluation_replaces_the_previous_change() {
    let egress = Egress::with(allow_list());
    let connections: Vec<_> = (0..1_000).map(|_| egress.connect("10.1.2.3:22", "")).collect();
    change(&egress, 2, json!({"allow_internet_access": false}));
    change(&egress, 3, allow_list());
    egress.host.advance(Duration::from_secs(1));
    let open = connections.iter().filter(|connection| connection.is_open()).count();
    assert!(open > 0, "streams that were not closed yet may stay open");
    change(&egress, 4, json!({"allow_internet_access": false}));
    egress.host.advance(Duration::from_secs(1));
    assert!(!connections.iter().any(sandgate_wasm_host::Connection::is_open));
}
