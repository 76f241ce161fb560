//! Live streams: re-evaluation, responses, and trailers.

use sandgate_policy::gateway_api::SandboxState;
use sandgate_policy::header::fields;
use sandgate_policy::ingress::head::Head;

use super::fleet::KEY;
use super::host::{Host, State};

/// A host with a live stream to the sandbox, and the change feed in flight.
fn live(sandbox: &str) -> (Host, u32) {
    let mut host = Host::new("{}");
    let key = format!("Bearer {KEY}");
    let stream = host.request(1, &format!("8080-{sandbox}"), &[("authorization", &key)]);
    host.answer_all();
    assert_eq!(host.state(stream), &State::Live);
    report_changes(&mut host);
    (host, stream)
}

/// A host with a live stream whose port was closed after the control plane had read the sandbox for the lookup, and before
/// it read the revision for the first response of the change feed. No later response reports this change.
fn live_on_an_outdated_lookup() -> (Host, u32) {
    let mut host = Host::new("{}");
    let stream = host.request(1, "8080-shop", &[]);
    host.wake();
    let [lookup] = host.lookups()[..] else { panic!("one lookup is in flight") };
    let response = host.prepare(lookup).expect("a response");
    host.fleet.change("shop", |sandbox| sandbox.exposed_ports.clear());
    host.fleet.changes.clear();
    let feed = host.feed_call().expect("the change feed is in flight");
    host.answer(feed);
    host.deliver(lookup, response);
    (host, stream)
}

fn report_changes(host: &mut Host) {
    let feed = host.feed_call().expect("the change feed is in flight");
    host.answer(feed);
    host.answer_all();
}

#[test]
fn a_stream_whose_sandbox_moves_is_closed() {
    let (mut host, stream) = live("private");
    host.fleet.change("private", |sandbox| sandbox.generation += 1);
    report_changes(&mut host);
    assert_eq!(host.state(stream), &State::Closed("closed.MOVED"));
}

#[test]
fn a_stream_whose_sandbox_is_suspended_is_closed() {
    let (mut host, stream) = live("private");
    host.fleet.change("private", |sandbox| sandbox.state = SandboxState::Suspended);
    report_changes(&mut host);
    assert_eq!(host.state(stream), &State::Closed("closed.SANDBOX_NOT_RUNNING"));
}

#[test]
fn a_stream_whose_credential_is_revoked_is_closed() {
    let (mut host, stream) = live("private");
    host.fleet.set_key(false);
    report_changes(&mut host);
    assert_eq!(host.state(stream), &State::Closed("closed.NOT_PERMITTED"));
}

#[test]
fn a_stream_that_cannot_be_reset_stays_known_and_is_reset_at_the_next_tick() {
    let (mut host, stream) = live("private");
    host.fails_to_close = true;
    host.fleet.set_key(false);
    report_changes(&mut host);
    assert!(host.not_closed.contains(&stream));
    assert!(!host.response(stream, "999"), "its response is still cleaned");
    host.advance(1_000);
    assert_eq!(host.state(stream), &State::Live);
    host.fails_to_close = false;
    host.advance(100);
    assert_eq!(host.state(stream), &State::Closed("closed.NOT_PERMITTED"));
}

#[test]
fn a_stream_stays_open_while_the_control_plane_is_unavailable() {
    let (mut host, stream) = live("private");
    host.fleet.change("private", |sandbox| sandbox.exposed_ports.clear());
    let feed = host.feed_call().expect("the change feed is in flight");
    host.answer(feed);
    host.lookups().into_iter().for_each(|call| host.fail(call, false));
    host.advance(500);
    assert_eq!(host.state(stream), &State::Live);
    host.answer_all();
    host.advance(1_000);
    host.answer_all();
    assert_eq!(host.state(stream), &State::Closed("closed.NOT_PERMITTED"));
}

#[test]
fn a_lookup_that_was_sent_before_the_first_response_of_the_feed_is_repeated() {
    let (mut host, stream) = live_on_an_outdated_lookup();
    host.wake();
    assert_eq!(host.state(stream), &State::Live);
    host.advance(6_000);
    host.answer_all();
    assert_eq!(host.state(stream), &State::Closed("closed.NOT_PERMITTED"));
}

#[test]
fn a_negative_result_closes_a_stream_even_if_it_takes_longer_than_its_lifetime() {
    let mut host = Host::new(r#"{"negative_ttl_ms": 500}"#);
    let stream = host.request(1, "8080-shop", &[]);
    host.answer_all();
    report_changes(&mut host);
    host.fleet.change("shop", |_| ());
    host.fleet.sandboxes.remove("shop");
    let feed = host.feed_call().expect("the change feed is in flight");
    host.answer(feed);
    host.wake();
    let [lookup] = host.lookups()[..] else { panic!("one lookup is in flight") };
    host.advance(1_000);
    host.answer(lookup);
    host.wake();
    assert!(matches!(host.state(stream), State::Closed(_)), "{:?}", host.state(stream));
}

#[test]
fn a_stream_is_not_kept_by_an_old_cache_entry_while_lookups_are_paused() {
    let (mut host, stream) = live_on_an_outdated_lookup();
    host.advance(5_900);
    for client in 1..=5 {
        host.request(client, &format!("8080-other{client}"), &[]);
    }
    host.wake();
    host.lookups().into_iter().for_each(|call| host.fail(call, true));
    // The entry expires, and the stream is re-evaluated while no lookup can start.
    host.advance(500);
    assert_eq!((host.state(stream), host.lookups().len()), (&State::Live, 0));
    host.advance(1_500);
    host.answer_all();
    assert_eq!(host.state(stream), &State::Closed("closed.NOT_PERMITTED"));
}

#[test]
fn changes_of_a_sandbox_do_not_delay_the_result_of_a_revoked_credential() {
    let mut host = Host::new(r#"{"negative_ttl_ms": 0}"#);
    let key = format!("Bearer {KEY}");
    let stream = host.request(1, "8080-private", &[("authorization", &key)]);
    host.answer_all();
    report_changes(&mut host);
    host.fleet.set_key(false);
    let feed = host.feed_call().expect("the change feed is in flight");
    host.answer(feed);
    host.wake();
    let [lookup] = host.lookups()[..] else { panic!("one lookup is in flight") };
    host.advance(500);
    host.fleet.change("private", |_| ());
    let feed = host.feed_call().expect("the change feed is in flight");
    host.answer(feed);
    host.wake();
    assert!(host.lookups().contains(&lookup));
    host.lookups().into_iter().for_each(|call| host.answer(call));
    host.wake();
    assert_eq!(host.state(stream), &State::Closed("closed.NOT_PERMITTED"));
}

#[test]
fn a_change_that_cannot_be_read_is_a_change_of_everything() {
    let (mut host, stream) = live("private");
    host.fleet.change("private", |sandbox| sandbox.exposed_ports.clear());
    host.fleet.changes.clear();
    let feed = host.feed_call().expect("the change feed is in flight");
    host.prepare(feed);
    let body = br#"{"revision": "9", "changes": [{"kind": "principal", "id": "auth0|Jane Doe"}]}"#;
    host.deliver(feed, (200, body.to_vec()));
    host.answer_all();
    assert_eq!(host.state(stream), &State::Closed("closed.NOT_PERMITTED"));
    assert_eq!(host.finished.iter().filter(|(_, is_answered)| !is_answered).count(), 0);
}

#[test]
fn a_stream_whose_port_becomes_public_stays_open_and_its_client_is_read() {
    let (mut host, stream) = live("private");
    host.fleet.change("private", |sandbox| sandbox.allow_unauthenticated_access = true);
    report_changes(&mut host);
    assert_eq!(host.state(stream), &State::Live);
    assert_eq!(host.conversions, 1);
    let trailers = [("x-secret".to_owned(), KEY.as_bytes().to_vec())];
    let changes = host.workers[0].engine.on_request_trailers(stream, Head::new(&fields(&trailers)));
    assert_eq!(changes.len(), 1, "the credential was verified, so it is not the app's");
}

#[test]
fn a_response_with_an_invalid_status_is_replaced() {
    let (mut host, stream) = live("private");
    assert!(host.response(stream, "200"));
    assert!(!host.response(stream, "999"));
}

#[test]
fn after_a_reset_of_the_feed_all_streams_are_evaluated_again() {
    let (mut host, stream) = live("private");
    // The feed has lost the change.
    host.fleet.change("private", |sandbox| sandbox.exposed_ports.clear());
    host.fleet.changes.clear();
    host.fleet.must_reset = true;
    report_changes(&mut host);
    assert_eq!(host.state(stream), &State::Closed("closed.NOT_PERMITTED"));
}
