//! The egress engine as a host uses it: events in, effects out.

#![cfg(test)]

#[path = "egress/interleavings.rs"]
mod interleavings;

use std::net::{IpAddr, SocketAddr};

use sandgate_engine::egress::{
    Connection, DataEffect, Decision, Engine, FilterKind, NewConnectionEffect, Outcome,
    RequestEffect, Update,
};
use sandgate_policy::egress::Route;
use serde_json::{Value, json};

fn configuration(generation: u64, policies: &[Value]) -> Vec<u8> {
    let configuration = json!({
        "version": 1,
        "generation": generation,
        "policies": policies,
        "virtual_addresses": { "198.18.0.10": "ok.test", "198.18.0.2": "*" },
    });
    configuration.to_string().into_bytes()
}

fn configure(engine: &mut Engine, generation: u64, policy: Value) -> Update {
    engine.configure(FilterKind::Tcp, configuration(generation, &[policy])).expect("valid")
}

/// An engine whose policy allows everything that is public except `bad.test`.
fn with_deny_list() -> Engine {
    let mut engine = Engine::default();
    configure(&mut engine, 1, json!({ "deny_out": ["bad.test"] }));
    engine
}

fn at(address: &str) -> Option<SocketAddr> {
    Some(address.parse().expect("an address with a port"))
}

fn connect(engine: &mut Engine, id: u32, destination: &str) -> (Connection, NewConnectionEffect) {
    let mut connection = Connection::new(id);
    let effect = connection.on_new_connection(engine, at(destination), b"");
    (connection, effect)
}

fn send(connection: &mut Connection, engine: &mut Engine, bytes: &[u8], end: bool) -> DataEffect {
    connection.on_data(engine, bytes.len(), end, || Some(bytes.to_vec()))
}

fn get(engine: &mut Engine, id: u32, destination: &str, host: &str) -> RequestEffect {
    let headers = [(":method", "GET"), (":path", "/"), (":authority", host)];
    let headers = headers.map(|(name, value)| (name, value.as_bytes()));
    engine.on_request_headers(id, at(destination), &headers)
}

fn denied(rule: &str) -> impl Fn(&Decision) -> bool {
    move |decision| decision.outcome == Outcome::Denied && decision.rule.to_string() == rule
}

fn reevaluate_all(engine: &mut Engine) -> Vec<(u32, Decision)> {
    let mut closed = Vec::new();
    while let Some(id) = engine.next_to_reevaluate() {
        closed.extend(engine.reevaluate(id, None).map(|decision| (id, decision)));
    }
    closed
}

#[test]
fn without_a_configuration_nothing_is_permitted() {
    let mut engine = Engine::default();
    assert!(matches!(connect(&mut engine, 1, "8.8.8.8:22").1, NewConnectionEffect::Fail));
    assert!(matches!(get(&mut engine, 2, "8.8.8.8:80", "good.test"), RequestEffect::Fail));
}

#[test]
fn without_an_original_destination_nothing_is_permitted() {
    let mut engine = with_deny_list();
    let effect = Connection::new(1).on_new_connection(&mut engine, None, b"good.test");
    assert!(matches!(effect, NewConnectionEffect::Fail));
    let headers = [(":method", &b"GET"[..]), (":path", &b"/"[..])];
    assert!(matches!(engine.on_request_headers(2, None, &headers), RequestEffect::Fail));
}

#[test]
fn an_invalid_configuration_changes_nothing() {
    let mut engine = with_deny_list();
    let invalid = configuration(2, &[json!({ "deny_out": ["bad..test"] })]);
    assert!(engine.configure(FilterKind::Http, invalid).is_err());
    assert_eq!(engine.configurations().generation_of(FilterKind::Http), None);
    assert_eq!(engine.configurations().generation_of(FilterKind::Tcp), Some(1));
}

#[test]
fn the_latest_generation_is_active_for_both_filters_and_reported_once_both_have_it() {
    let mut engine = Engine::default();
    let (second, first) = (configuration(2, &[json!({})]), configuration(1, &[json!({})]));
    assert_eq!(
        engine.configure(FilterKind::Tcp, second.clone()).expect("valid"),
        Update::Activated(2)
    );
    assert_eq!(engine.configurations().generation(), None);
    assert_eq!(engine.configure(FilterKind::Http, first).expect("valid"), Update::Outdated(1));
    assert_eq!(engine.configurations().generation(), Some(1));
    assert_eq!(engine.configure(FilterKind::Http, second).expect("valid"), Update::Unchanged);
    assert_eq!(engine.configurations().generation(), Some(2));
}

#[test]
fn a_virtual_address_leads_to_its_name() {
    let mut engine = Engine::default();
    configure(&mut engine, 1, json!({ "allow_internet_access": false, "allow_out": ["ok.test"] }));
    let NewConnectionEffect::Connect { permit, .. } = connect(&mut engine, 1, "198.18.0.10:22").1
    else {
        panic!("not permitted")
    };
    assert!(matches!(permit.route(), Route::ByName(name) if name.as_str() == "ok.test"));
}

#[test]
fn http_on_a_connection_without_a_name_is_denied_and_nothing_follows() {
    let mut engine = with_deny_list();
    let (mut connection, effect) = connect(&mut engine, 1, "8.8.8.8:80");
    assert!(matches!(effect, NewConnectionEffect::Connect { .. }));
    assert_eq!(send(&mut connection, &mut engine, b"GET / HT", false), DataEffect::Continue);
    let effect = send(&mut connection, &mut engine, b"TP/1.1\r\n", false);
    let DataEffect::Close(decision) = effect else { panic!("{effect:?}") };
    assert!(denied("Host not understood")(&decision), "{decision:?}");
    assert_eq!(send(&mut connection, &mut engine, b"more", true), DataEffect::Hold);
}

#[test]
fn another_protocol_continues_and_is_not_inspected_again() {
    let mut engine = with_deny_list();
    let (mut connection, _) = connect(&mut engine, 1, "8.8.8.8:22");
    assert_eq!(send(&mut connection, &mut engine, b"\x00\x01\r\n", false), DataEffect::Continue);
    let unread = connection.on_data(&mut engine, 9, false, || panic!("not read again"));
    assert_eq!(unread, DataEffect::Continue);
}

#[test]
fn the_start_of_a_client_hello_is_held_until_the_client_ends() {
    let mut engine = with_deny_list();
    let (mut connection, _) = connect(&mut engine, 1, "8.8.8.8:443");
    assert_eq!(send(&mut connection, &mut engine, &[22, 3, 1], false), DataEffect::Hold);
    assert_eq!(send(&mut connection, &mut engine, &[22, 3, 1], true), DataEffect::Continue);
}

#[test]
fn a_connection_whose_bytes_cannot_be_read_fails() {
    let mut engine = with_deny_list();
    let (mut connection, _) = connect(&mut engine, 1, "8.8.8.8:443");
    assert_eq!(connection.on_data(&mut engine, 9, false, || None), DataEffect::Fail);
    connection.abort(&mut engine);
    assert_eq!(send(&mut connection, &mut engine, b"more", false), DataEffect::Hold);
}

#[test]
fn a_request_is_denied_with_the_rule_or_forwarded_with_a_route() {
    let mut engine = with_deny_list();
    let RequestEffect::Deny(decision) = get(&mut engine, 1, "8.8.8.8:80", "bad.test") else {
        panic!("not denied")
    };
    assert!(denied("deny_out bad.test")(&decision), "{decision:?}");
    let RequestEffect::Forward(forward) = get(&mut engine, 2, "8.8.8.8:80", "no-host.invalid")
    else {
        panic!("not forwarded")
    };
    assert_eq!(*forward.permit.route(), Route::Original(IpAddr::from([8, 8, 8, 8])));
    assert_eq!(forward.authority.as_deref(), Some("8.8.8.8"));
}

#[test]
fn a_new_policy_closes_the_streams_that_it_denies_and_no_others() {
    let mut engine = with_deny_list();
    let (_ended, _) = connect(&mut engine, 1, "8.8.8.8:22");
    let (_denied, _) = connect(&mut engine, 2, "8.8.8.8:22");
    let (_allowed, _) = connect(&mut engine, 3, "1.1.1.1:22");
    get(&mut engine, 4, "8.8.8.8:80", "good.test");
    configure(&mut engine, 2, json!({ "deny_out": ["8.8.8.8"] }));
    engine.on_stream_end(1);
    let closed = reevaluate_all(&mut engine);
    let summary: Vec<_> = closed.iter().map(|(id, decision)| (*id, decision.kind)).collect();
    assert_eq!(summary, [(2, FilterKind::Tcp), (4, FilterKind::Http)]);
    for (_, decision) in closed {
        assert_eq!((decision.outcome, decision.generation), (Outcome::Closed, 2));
    }
    assert!(!engine.is_reevaluating());
}
