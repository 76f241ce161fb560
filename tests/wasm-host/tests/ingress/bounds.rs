//! Floods use bounded memory and a bounded number of calls.

use std::time::Duration;

use serde_json::json;

use super::support::fleet::Health;
use super::support::{Gateway, bearer, denial, denied, forwarded, from, is_pending, to, with_key};

#[test]
fn the_number_of_lookups_in_flight_stays_within_the_limit() {
    let gateway = Gateway::with_limits(json!({"lookups_in_flight": 10}));
    gateway.passes(to(8080, "shop"));
    // The change feed does not cover the first lookups: they were sent before its first response.
    gateway.advance_ms(5_000);
    gateway.passes(to(8080, "shop"));
    gateway.fleet().delay = Duration::from_millis(500);
    let streams: Vec<_> =
        (0..100).map(|number| gateway.send(to(8080, &format!("unknown-{number}")))).collect();
    for done in (0..100).step_by(10) {
        assert_eq!(gateway.host.calls_in_flight(), 10 + 1, "and the feed");
        assert_eq!(streams.iter().filter(|stream| is_pending(stream)).count(), 100 - done);
        gateway.advance_ms(500);
    }
    for stream in &streams {
        assert_eq!(denied(stream), denial(401, "UNAUTHENTICATED"));
    }
    gateway.passes(to(8080, "shop"));
}

#[test]
fn a_queued_lookup_is_dropped_when_no_request_waits_for_it() {
    let gateway = Gateway::with_limits(json!({"lookups_in_flight": 10}));
    gateway.passes(to(8080, "shop"));
    // The change feed does not cover the first lookups: they were sent before its first response.
    gateway.advance_ms(5_000);
    gateway.passes(to(8080, "shop"));
    gateway.fleet().delay = Duration::from_millis(500);
    let before = gateway.calls("GET /gateway/v1/sandboxes/unknown");
    let streams: Vec<_> =
        (0..100).map(|number| gateway.send(to(8080, &format!("unknown-{number}")))).collect();
    streams.iter().for_each(super::host::Stream::abort);
    gateway.advance_ms(5_000);
    assert_eq!(gateway.calls("GET /gateway/v1/sandboxes/unknown") - before, 10);
    gateway.passes(to(8080, "shop"));
}

#[test]
fn a_flood_of_lookups_by_one_client_delays_other_clients_by_one_response() {
    let gateway = Gateway::with_limits(json!({"lookups_in_flight": 10}));
    gateway.passes(to(8080, "shop"));
    gateway.fleet().delay = Duration::from_millis(500);
    let flood: Vec<_> = (0..500)
        .map(|number| from(&gateway, "192.0.2.1", to(8080, &format!("unknown-{number}"))))
        .collect();
    let honest = from(&gateway, "192.0.2.2", with_key(8080, "my-env"));
    gateway.advance_ms(1_100);
    forwarded(&honest);
    assert!(flood.iter().filter(|stream| is_pending(stream)).count() > 400);
}

#[test]
fn lookups_are_sent_for_client_addresses_in_turn() {
    let gateway = Gateway::with_limits(json!({"lookups_in_flight": 2}));
    gateway.passes(to(8080, "shop"));
    gateway.fleet().delay = Duration::from_millis(100);
    // More addresses than lookups may be in flight, each with more than one lookup.
    let mut flood = Vec::new();
    for number in 0..60 {
        let client = format!("192.0.2.{}", 1 + number % 20);
        flood.push(from(&gateway, &client, to(8080, &format!("unknown-{number}"))));
    }
    let honest = from(&gateway, "198.51.100.1", with_key(8080, "my-env"));
    // One round over all addresses for the sandbox, and another round for the caller.
    gateway.advance_ms(2_500);
    forwarded(&honest);
    assert!(flood.iter().any(is_pending));
}

#[test]
fn a_client_that_fills_the_waiting_requests_makes_room_for_others() {
    let gateway = Gateway::with_limits(json!({"waiters": 20, "requests_per_sandbox": 1_000}));
    gateway.passes(to(8080, "shop"));
    gateway.fleet().delay = Duration::from_millis(500);
    let unknown = |number: usize| to(8080, &format!("unknown-{number}"));
    let flood: Vec<_> = (0..20).map(|n| from(&gateway, "192.0.2.1", unknown(n))).collect();
    let one_more = from(&gateway, "192.0.2.1", unknown(20));
    assert_eq!(denied(&one_more), denial(503, "SANDBOX_NOT_READY"));
    let honest: Vec<_> =
        (0..5).map(|_| from(&gateway, "192.0.2.2", with_key(8080, "my-env"))).collect();
    assert!(honest.iter().all(is_pending));
    let refused: Vec<_> = flood.iter().filter(|stream| !is_pending(stream)).collect();
    assert_eq!(refused.len(), honest.len());
    for stream in refused {
        assert_eq!(denied(stream), denial(503, "SANDBOX_NOT_READY"));
    }
    // A request with cached answers does not wait, and takes no slot.
    gateway.passes(to(8080, "shop"));
    gateway.advance_ms(600);
    honest.iter().for_each(|stream| drop(forwarded(stream)));
    let rest = flood.iter().map(denied).filter(|it| *it == denial(401, "UNAUTHENTICATED"));
    assert_eq!(rest.count(), 15);
}

#[test]
fn cached_routes_work_while_the_maximum_of_lookups_is_in_flight() {
    let gateway = Gateway::with_limits(json!({"lookups_in_flight": 2}));
    gateway.passes(with_key(8080, "my-env"));
    gateway.passes(with_key(8080, "my-env"));
    gateway.fleet().health = Health::Hangs;
    for number in 0..10 {
        gateway.send(to(8080, &format!("unknown-{number}")));
    }
    gateway.passes(with_key(8080, "my-env"));
}

#[test]
fn resumes_do_not_count_against_the_limit_of_lookups() {
    let gateway = Gateway::with_limits(json!({"lookups_in_flight": 1}));
    gateway.passes(to(8080, "shop"));
    gateway.fleet().resume_time = Duration::from_secs(60);
    let waiting = gateway.send(with_key(8080, "asleep"));
    assert!(is_pending(&waiting), "{:?}", waiting.outcome());
    gateway.passes(with_key(8080, "my-env"));
}

#[test]
fn a_flood_of_unknown_hosts_uses_bounded_memory_and_does_not_affect_others() {
    let gateway = Gateway::with_limits(json!({"cache_entries": 200}));
    gateway.passes(with_key(8080, "my-env"));
    let flood = |from: u32, to: u32| {
        for number in from..to {
            let stream = gateway.send(super::support::to(8080, &format!("unknown-{number}")));
            assert_eq!(denied(&stream).1, "UNAUTHENTICATED");
            gateway.passes(with_key(8080, "my-env"));
        }
    };
    flood(0, 1_000);
    let memory = gateway.host.memory_bytes();
    flood(1_000, 6_000);
    assert!(gateway.host.memory_bytes() <= memory + (64 << 10), "{memory} grew");
}

#[test]
fn a_flood_of_credentials_uses_bounded_memory() {
    let gateway = Gateway::with_limits(json!({"cache_entries": 200}));
    gateway.passes(with_key(8080, "my-env"));
    let flood = |from: u32, to: u32| {
        for number in from..to {
            let token = format!("tl_apiKey_{number:0>200}");
            let stream = gateway.send(bearer(super::support::to(8080, "my-env"), &token));
            assert_eq!(denied(&stream).1, "INVALID_CREDENTIALS");
        }
    };
    flood(0, 1_000);
    let memory = gateway.host.memory_bytes();
    flood(1_000, 5_000);
    assert!(gateway.host.memory_bytes() <= memory + (64 << 10), "{memory} grew");
    gateway.passes(with_key(8080, "my-env"));
}

#[test]
fn a_flood_of_the_same_denied_request_makes_few_calls() {
    let gateway = Gateway::new();
    gateway.passes(with_key(8080, "my-env"));
    let before = gateway.calls("");
    for _ in 0..2_000 {
        gateway.denies(to(8080, "no-such-sandbox"));
        gateway.advance_ms(1);
    }
    let made = gateway.calls("") - before;
    assert!(made <= 20, "{made} calls for 2,000 requests in two seconds");
}

#[test]
fn requests_denied_at_a_limit_leave_no_memory_behind() {
    let gateway = Gateway::with_limits(json!({"resume_waiters": 10}));
    gateway.passes(to(8080, "shop"));
    gateway.fleet().resume_time = Duration::from_secs(3_600);
    let waiters: Vec<_> = (0..10)
        .map(|_| {
            let patient = with_key(8080, "asleep");
            gateway.send(patient.with("x-tensorlake-request-timeout-ms", "200000"))
        })
        .collect();
    let flood = |requests: usize| {
        for _ in 0..requests {
            let stream = gateway.host.request(with_key(8080, "asleep"));
            assert_eq!(denied(&stream).1, "SANDBOX_NOT_READY");
        }
    };
    flood(5_000);
    let memory = gateway.host.memory_bytes();
    flood(60_000);
    let now = gateway.host.memory_bytes();
    assert!(now <= memory + (64 << 10), "{memory} grew to {now} bytes");
    assert!(waiters.iter().all(is_pending));
}

#[test]
fn aborted_requests_leave_no_memory_behind_while_the_control_plane_hangs() {
    let gateway = Gateway::new();
    gateway.passes(to(8080, "shop"));
    gateway.fleet().health = Health::Hangs;
    let come_and_go = |rounds: usize| {
        for round in 0..rounds {
            for number in 0..100 {
                let name = format!("unknown-{}", round * 100 + number);
                gateway.host.request(with_key(8080, &name)).abort();
            }
            gateway.advance_ms(2_100);
        }
    };
    come_and_go(20);
    let memory = gateway.host.memory_bytes();
    come_and_go(100);
    assert!(gateway.host.memory_bytes() <= memory + (64 << 10), "{memory} grew");
    gateway.fleet().health = Health::Good;
    gateway.advance_ms(10_000);
    forwarded(&gateway.send(with_key(8080, "my-env")));
}
