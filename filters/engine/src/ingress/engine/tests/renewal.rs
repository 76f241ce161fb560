//! A hub that begins anew after a panic.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::fleet::KEY;
use super::host::{Host, State};
use super::invariants::check;

fn key() -> String {
    format!("Bearer {KEY}")
}

/// Panics while the hub is locked, as a bug in its code would.
fn panic_in_the_hub(host: &Host) {
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _locked = host.hub.lock();
        panic!("a bug");
    }));
    assert!(panicked.is_err());
}

#[test]
fn after_a_panic_in_the_hub_all_workers_repeat_their_lookups() {
    let mut host = Host::with_workers(2, "{}");
    let streams: Vec<_> = (0..2)
        .map(|worker| host.request_on(worker, 1, "8080-private", &[("authorization", &key())]))
        .collect();
    host.wake();
    let (lost, old_poll) = (host.lookups(), host.feed_call());
    assert_eq!(lost.len(), 2, "the lookups of the sandbox and the caller");
    panic_in_the_hub(&host);
    host.advance(100);
    let repeated = host.lookups().len() - lost.len();
    assert_eq!(repeated, 2, "all workers share them");
    // The hub does not know the old calls any more.
    lost.into_iter().chain(old_poll).for_each(|call| host.answer(call));
    assert_eq!(host.streams_in(&State::Waiting), streams);
    host.answer_all();
    assert_eq!(host.streams_in(&State::Live), streams);
    check(&host);
}

#[test]
fn after_a_panic_in_the_hub_no_entry_from_before_permits_a_request() {
    let mut host = Host::with_workers(2, "{}");
    let authorization = key();
    let fields = [("authorization", authorization.as_str())];
    let live: Vec<_> =
        (0..2).map(|worker| host.request_on(worker, 1, "8080-private", &fields)).collect();
    host.answer_all();
    host.answer_feed();
    assert_eq!(host.streams_in(&State::Live), live);
    // The panic loses the report of this change.
    host.fleet.set_key(false);
    host.fleet.changes.clear();
    panic_in_the_hub(&host);
    for worker in 0..2 {
        let stream = host.request_on(worker, 1, "8080-private", &fields);
        assert_eq!(host.state(stream), &State::Waiting);
    }
    host.advance(1_000);
    host.answer_all();
    assert_eq!(host.streams_in(&State::Closed("closed.NOT_PERMITTED")), live);
    assert_eq!(host.streams_in(&State::Denied("INVALID_CREDENTIALS")).len(), 2);
}

#[test]
fn a_hub_that_begins_anew_reads_the_feed_from_its_beginning() {
    let mut host = Host::new("{}");
    host.request(1, "8080-shop", &[]);
    host.answer_all();
    host.answer_feed();
    host.wake();
    let old = host.feed_call().expect("the change feed is in flight");
    assert!(host.calls[&old].path.contains("since="));
    host.hub.begin_anew();
    host.calls.remove(&old);
    host.run_hub();
    let new = host.feed_call().expect("the change feed is in flight");
    assert!(!host.calls[&new].path.contains("since="));
    assert!(new > old, "no number is used again");
}

#[test]
fn hubs_share_no_decision() {
    let (mut host, mut other) = (Host::new("{}"), Host::new("{}"));
    host.request(1, "8080-shop", &[]);
    host.answer_all();
    let cached = host.request(1, "8080-shop", &[]);
    assert_eq!(host.state(cached), &State::Live);
    let stream = other.request(1, "8080-shop", &[]);
    assert_eq!(other.state(stream), &State::Waiting);
}

#[test]
fn a_worker_whose_engine_begins_anew_leaves_its_lookups() {
    let mut host = Host::with_workers(2, "{}");
    host.request_on(0, 1, "8080-shop", &[]);
    let other = host.request_on(1, 1, "8080-nap", &[]);
    host.hub.forget_streams(host.workers[0].id);
    host.run_hub();
    assert_eq!(host.lookups().len(), 1, "the lookup of the other worker");
    host.answer_all();
    assert!(matches!(host.state(other), State::Waiting | State::Live));
}
