//! Waiting requests: lookups, failures, resumes, and deadlines.

use super::fleet::{BAD_KEY, KEY};
use super::host::{Host, State};
use crate::ingress::CallKind;

fn bearer(key: &str) -> String {
    format!("Bearer {key}")
}

#[test]
fn a_request_waits_for_its_lookups_and_is_forwarded() {
    let mut host = Host::new("{}");
    let stream = host.request(1, "8080-private", &[("authorization", &bearer(KEY))]);
    assert_eq!(host.state(stream), &State::Waiting);
    host.wake();
    assert_eq!(host.lookups().len(), 2, "the sandbox and the caller");
    host.answer_all();
    assert_eq!(host.state(stream), &State::Live);
    let cached = host.request(1, "8080-private", &[("authorization", &bearer(KEY))]);
    assert_eq!(host.state(cached), &State::Live);
    assert!(!host.must_wake(), "a request that is decided from the caches causes no effect");
}

#[test]
fn requests_share_a_lookup() {
    let mut host = Host::new("{}");
    let streams: Vec<_> = (0..10).map(|client| host.request(client, "8080-shop", &[])).collect();
    host.wake();
    assert_eq!(host.lookups().len(), 1);
    host.answer_all();
    assert_eq!(host.streams_in(&State::Live), streams);
}

#[test]
fn a_lookup_that_only_ended_streams_wait_for_is_not_sent() {
    let mut host = Host::new("{}");
    let stream = host.request(1, "8080-shop", &[]);
    host.end(stream);
    host.wake();
    assert_eq!(host.lookups(), []);
}

#[test]
fn a_request_to_the_lifecycle_api_needs_no_lookup_and_does_not_start_the_engine() {
    let mut host = Host::new("{}");
    let stream = host.request(1, "api", &[]);
    assert_eq!(host.state(stream), &State::Api);
    host.advance(1_000);
    assert!(host.calls.is_empty(), "the change feed starts with the first request to a sandbox");
}

#[test]
fn an_unknown_credential_is_denied_after_its_lookup() {
    let mut host = Host::new("{}");
    let stream = host.request(1, "8080-private", &[("authorization", &bearer(BAD_KEY))]);
    host.answer_all();
    assert_eq!(host.state(stream), &State::Denied("INVALID_CREDENTIALS"));
}

#[test]
fn a_preflight_that_waits_is_answered_after_the_lookup_of_the_port() {
    let mut host = Host::new("{}");
    let preflight = [
        (":method", "OPTIONS"),
        ("origin", "https://app.example.org"),
        ("access-control-request-method", "PUT"),
    ];
    let stream = host.request(1, "8080-private", &preflight);
    assert_eq!(host.state(stream), &State::Waiting);
    host.answer_all();
    assert_eq!(host.state(stream), &State::Preflight);
}

#[test]
fn a_failed_lookup_denies_the_request_and_a_call_that_cannot_be_sent_does_too() {
    let mut host = Host::new("{}");
    let failed = host.request(1, "8080-shop", &[]);
    host.wake();
    host.lookups().into_iter().for_each(|call| host.fail(call, true));
    assert_eq!(host.state(failed), &State::Denied("SANDBOX_UPSTREAM_ERROR"));
    host.refuses_calls = true;
    let unsent = host.request(1, "8080-shop", &[]);
    host.wake();
    assert_eq!(host.state(unsent), &State::Denied("SANDBOX_UPSTREAM_ERROR"));
    let sandboxes = host.finished.iter().filter(|(kind, _)| *kind == CallKind::Sandbox);
    assert_eq!(sandboxes.map(|(_, is_answered)| *is_answered).collect::<Vec<_>>(), [false, false]);
}

#[test]
fn after_five_failures_no_lookup_starts_for_a_second() {
    let mut host = Host::new("{}");
    host.refuses_calls = true;
    for _ in 0..5 {
        host.request(1, "8080-shop", &[]);
        host.wake();
    }
    host.refuses_calls = false;
    let paused = host.request(1, "8080-shop", &[]);
    assert_eq!(host.state(paused), &State::Denied("SANDBOX_UPSTREAM_ERROR"));
    host.advance(1_000);
    let later = host.request(1, "8080-shop", &[]);
    host.answer_all();
    assert_eq!(host.state(later), &State::Live);
}

#[test]
fn a_lost_response_ends_in_a_denial_at_the_deadline() {
    let mut host = Host::new("{}");
    let stream = host.request(1, "8080-shop", &[]);
    host.advance(10_900);
    assert_eq!(host.state(stream), &State::Waiting);
    host.advance(200);
    assert_eq!(host.state(stream), &State::Denied("SANDBOX_UPSTREAM_ERROR"));
}

#[test]
fn all_requests_to_a_suspended_sandbox_wait_for_one_resume() {
    let mut host = Host::new("{}");
    let key = bearer(KEY);
    let streams: Vec<_> = (0..5)
        .map(|client| host.request(client, "8080-asleep", &[("authorization", &key)]))
        .collect();
    host.wake();
    host.lookups().into_iter().for_each(|call| host.answer(call));
    host.wake();
    let lookups = host.lookups();
    let resumes = host.calls.values().filter(|call| call.path.ends_with("/resume"));
    assert_eq!((resumes.count(), lookups.len()), (1, 1));
    host.answer_all();
    assert_eq!(host.streams_in(&State::Live), streams);
}

#[test]
fn a_client_that_waits_for_a_shorter_time_is_denied_earlier() {
    let mut host = Host::new("{}");
    let key = bearer(KEY);
    let fields = [("authorization", key.as_str()), ("x-tensorlake-request-timeout-ms", "2000")];
    let stream = host.request(1, "8080-asleep", &fields);
    host.wake();
    host.lookups().into_iter().for_each(|call| host.answer(call));
    host.advance(1_400);
    assert_eq!(host.state(stream), &State::Waiting);
    host.advance(200);
    assert_eq!(host.state(stream), &State::Denied("SANDBOX_NOT_READY"));
}

#[test]
fn a_request_that_cannot_be_forwarded_is_denied_and_not_live() {
    let mut host = Host::new("{}");
    host.fails_to_forward = true;
    let waited = host.request(1, "8080-shop", &[]);
    host.answer_all();
    let cached = host.request(1, "8080-shop", &[]);
    for stream in [waited, cached] {
        assert_eq!(host.state(stream), &State::Denied("SANDBOX_UPSTREAM_ERROR"));
        assert!(!host.is_live(stream));
    }
}

#[test]
fn a_feed_call_that_cannot_be_sent_counts_as_failed() {
    let mut host = Host::new("{}");
    host.refuses_calls = true;
    host.request(1, "8080-shop", &[]);
    host.wake();
    assert!(host.finished.contains(&(CallKind::Changes, false)));
}

#[test]
fn a_request_that_got_a_slot_to_wait_in_is_denied_for_the_failure_of_the_control_plane() {
    let mut host = Host::new(r#"{"waiters": 3}"#);
    host.request(1, "8080-shop", &[]);
    host.request(1, "8080-shop", &[]);
    host.wake();
    let shop = host.lookups();
    for number in 0..5 {
        host.request(2, &format!("8080-unknown{number}"), &[]);
        host.wake();
        let others: Vec<_> = host.lookups().into_iter().filter(|it| !shop.contains(it)).collect();
        others.into_iter().for_each(|call| host.fail(call, true));
    }
    // No lookup starts now, but this request shares the first one, and takes the last slot.
    host.request(1, "8080-shop", &[]);
    assert_eq!(host.streams_in(&State::Waiting).len(), 3);
    let stream = host.request(3, "8080-private", &[]);
    assert_eq!(host.state(stream), &State::Denied("SANDBOX_UPSTREAM_ERROR"));
}

#[test]
fn malformed_responses_about_one_sandbox_do_not_pause_the_lookups_of_others() {
    let mut host = Host::new("{}");
    for client in 1..=10 {
        let stream = host.request(client, "8080-private", &[]);
        host.wake();
        for lookup in host.lookups() {
            host.prepare(lookup);
            host.deliver(lookup, (200, br#"{"project_id": "team/blue"}"#.to_vec()));
        }
        host.wake();
        assert_eq!(host.state(stream), &State::Denied("SANDBOX_UPSTREAM_ERROR"));
    }
    let stream = host.request(1, "8080-shop", &[]);
    host.answer_all();
    assert_eq!(host.state(stream), &State::Live);
}

#[test]
fn requests_that_a_resume_releases_wait_for_a_slot_of_their_sandbox() {
    // One slot is reserved for management.
    let mut host = Host::new(r#"{"requests_per_sandbox": 5}"#);
    let key = [("authorization", bearer(KEY))];
    let key: Vec<_> = key.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let streams: Vec<_> = (0..10).map(|_| host.request(1, "8080-asleep", &key)).collect();
    host.answer_all();
    assert_eq!(host.streams_in(&State::Live), streams[..4]);
    assert_eq!(host.streams_in(&State::Waiting), streams[4..]);
    // Requests that did not wait for the resume wait for no slot, either.
    let late = host.request(1, "8080-asleep", &key);
    assert_eq!(host.state(late), &State::Denied("TOO_MANY_REQUESTS"));
    for index in 0..3 {
        host.end(streams[index]);
        host.wake();
        assert_eq!(host.state(streams[index + 4]), &State::Live, "the first that waits is next");
    }
    assert_eq!(host.streams_in(&State::Waiting), streams[7..]);
    host.advance(29_000);
    assert_eq!(host.streams_in(&State::Waiting), streams[7..]);
    host.advance(1_000);
    for stream in &streams[7..] {
        assert_eq!(host.state(*stream), &State::Denied("TOO_MANY_REQUESTS"));
    }
}

#[test]
fn requests_that_a_resume_releases_are_forwarded_in_windows_that_grow() {
    let mut host = Host::new("{}");
    let key = bearer(KEY);
    let fields = [("authorization", key.as_str())];
    let streams: Vec<_> = (0..300).map(|_| host.request(1, "8080-asleep", &fields)).collect();
    host.answer_all();
    assert_eq!(host.streams_in(&State::Live), streams[..64]);
    // Each that ends lets the next one in. A request that did not wait for the resume is not bound by the window.
    host.end(streams[0]);
    host.wake();
    assert_eq!(host.streams_in(&State::Live), streams[1..65]);
    let late = host.request(1, "8080-asleep", &fields);
    assert_eq!(host.state(late), &State::Live);
    host.end(late);
    for live in [128, 256, 299] {
        host.advance(100);
        host.wake();
        assert_eq!(host.streams_in(&State::Live).len(), live);
    }
    assert_eq!(host.workers[0].engine.crowded.len(), 0);
}

#[test]
fn a_request_that_waits_for_a_slot_ends_with_its_client() {
    let mut host = Host::new(r#"{"requests_per_sandbox": 5}"#);
    let key = bearer(KEY);
    let fields = [("authorization", key.as_str())];
    let streams: Vec<_> = (0..6).map(|_| host.request(1, "8080-asleep", &fields)).collect();
    host.answer_all();
    host.end(streams[4]);
    host.end(streams[0]);
    host.wake();
    assert_eq!(host.state(streams[5]), &State::Live, "the next one has the slot");
    assert_eq!(host.workers[0].engine.crowded.len(), 0);
}

/// The change feed is down, so nothing but a new lookup tells that the credential was revoked meanwhile.
#[test]
fn a_request_that_waits_for_a_resume_is_judged_by_its_caller_at_the_end_of_the_wait() {
    for (waits_ms, state) in [(20_000, State::Denied("INVALID_CREDENTIALS")), (1_000, State::Live)]
    {
        let mut host = Host::new("{}");
        let stream = host.request(1, "8080-asleep", &patient_fields(&bearer(KEY)));
        host.wake();
        host.lookups().into_iter().for_each(|call| host.answer(call));
        host.wake();
        host.fleet.set_key(false);
        host.advance(waits_ms);
        assert_eq!(host.state(stream), &State::Waiting);
        host.answer_all();
        assert_eq!(host.state(stream), &state, "after {waits_ms} ms");
    }
}

/// As above.
#[test]
fn a_request_that_waits_for_a_slot_is_judged_by_its_caller_at_the_end_of_the_wait() {
    let mut host = Host::new(r#"{"requests_per_sandbox": 3}"#);
    let key = bearer(KEY);
    let send = |_| host.request(1, "8080-asleep", &patient_fields(&key));
    let streams: Vec<_> = (0..5).map(send).collect();
    host.answer_all();
    let (live, crowded) = (host.streams_in(&State::Live), host.streams_in(&State::Waiting));
    assert!(!live.is_empty() && !crowded.is_empty());
    host.fleet.set_key(false);
    host.advance(20_000);
    live.iter().for_each(|stream| host.end(*stream));
    host.answer_all();
    host.advance(1_000);
    host.answer_all();
    assert_eq!(host.streams_in(&State::Denied("INVALID_CREDENTIALS")), crowded);
    assert_eq!(live.len() + crowded.len(), streams.len());
}

/// The header fields of a request that waits for a minute.
fn patient_fields(authorization: &str) -> [(&str, &str); 2] {
    [("authorization", authorization), ("x-tensorlake-request-timeout-ms", "60000")]
}
