//! The bounds of the engine's memory and work.

use super::fleet::KEY;
use super::host::{Host, State};

#[test]
fn a_client_that_takes_all_slots_for_waiting_requests_gives_one_to_another_client() {
    let mut host = Host::new(r#"{"waiters": 4}"#);
    let flood: Vec<_> = (0..4).map(|_| host.request(1, "8080-shop", &[])).collect();
    let own = host.request(1, "8080-shop", &[]);
    assert_eq!(host.state(own), &State::Denied("SANDBOX_NOT_READY"));
    let other = host.request(2, "8080-shop", &[]);
    assert_eq!(host.state(other), &State::Waiting);
    host.wake();
    let denied = host.streams_in(&State::Denied("SANDBOX_NOT_READY"));
    assert_eq!(denied.iter().filter(|stream| flood.contains(stream)).count(), 1);
    assert_eq!(host.workers[0].engine.waiting.len(), 4);
}

#[test]
fn a_cached_request_needs_no_slot() {
    let mut host = Host::new(r#"{"waiters": 1}"#);
    host.request(1, "8080-shop", &[]);
    host.answer_all();
    host.request(1, "8080-unknown", &[]);
    let cached = host.request(1, "8080-shop", &[]);
    assert_eq!(host.state(cached), &State::Live);
}

#[test]
fn an_anonymous_stream_is_evicted_for_another_client_and_not_for_its_own() {
    // One slot is reserved for management, and another one is not for anonymous requests.
    let mut host = Host::new(r#"{"requests_per_sandbox": 5}"#);
    let flood: Vec<_> = (0..3).map(|_| host.request(1, "8080-shop", &[])).collect();
    host.answer_all();
    let own = host.request(1, "8080-shop", &[]);
    assert_eq!(host.state(own), &State::Denied("TOO_MANY_REQUESTS"));
    let other = host.request(2, "8080-shop", &[]);
    assert_eq!(host.state(other), &State::Live);
    host.wake();
    let closed = host.streams_in(&State::Closed("closed.MADE_ROOM"));
    assert_eq!(closed.iter().filter(|stream| flood.contains(stream)).count(), 1);
    let management = host.request(3, "shop", &[("authorization", &format!("Bearer {KEY}"))]);
    host.answer_all();
    assert_eq!(host.state(management), &State::Live);
}

#[test]
fn one_run_evaluates_a_bounded_number_of_requests() {
    let mut host = Host::new("{}");
    for _ in 0..100 {
        host.request(1, "8080-shop", &[]);
    }
    host.wake();
    host.lookups().into_iter().for_each(|call| host.answer(call));
    assert_eq!(host.streams_in(&State::Live).len(), 64);
    assert!(host.must_wake());
    host.wake();
    assert_eq!(host.streams_in(&State::Live).len(), 100);
}
