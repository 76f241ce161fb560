//! Requests to a suspended sandbox: who may resume it, and how long they wait.

use std::time::Duration;

use super::host::{Answer, Headers, Outcome, Stream};
use sandgate_policy::gateway_api::SandboxState;

use super::support::fleet::{Health, error, marked};
use super::support::{
    ASLEEP, Gateway, bearer, denial, denied, forwarded, is_pending, replied, to, with_key,
};

const RESUMES: &str = "POST /gateway/v1/sandboxes/";

pub(crate) fn with_timeout(headers: Headers, ms: &str) -> Headers {
    headers.with("x-tensorlake-request-timeout-ms", ms)
}

/// A gateway whose feed runs, and whose sandbox takes this many seconds to resume.
pub(crate) fn with_resume_time(seconds: u64) -> Gateway {
    let gateway = Gateway::new();
    gateway.passes(to(8080, "shop"));
    gateway.fleet().resume_time = Duration::from_secs(seconds);
    gateway
}

#[test]
fn a_suspended_sandbox_is_resumed_and_the_request_is_forwarded_to_its_new_address() {
    let gateway = with_resume_time(2);
    for port in [8080, 9501] {
        let stream = gateway.send(with_key(port, "asleep"));
        assert_eq!(is_pending(&stream), port == 8080, "resumed by then");
        gateway.advance_ms(2_000);
        let upstream = forwarded(&stream).upstream;
        assert_eq!(upstream, Some(format!("127.64.0.5:{port}")));
        assert!(stream.property("sandgate_generation").is_some_and(|group| group.contains('2')));
    }
    assert_eq!(gateway.calls(&format!("{RESUMES}{ASLEEP}/resume")), 1);
}

#[test]
fn two_hundred_waiters_make_one_resume() {
    let gateway = with_resume_time(3);
    let streams: Vec<Stream> =
        (0..200).map(|_| gateway.host.request(with_key(8080, "asleep"))).collect();
    gateway.advance_ms(2_900);
    assert!(streams.iter().all(is_pending));
    // They are forwarded in windows that double with each tick.
    gateway.advance_ms(800);
    for stream in &streams {
        forwarded(stream);
    }
    assert_eq!(gateway.calls(RESUMES), 1);
}

#[test]
fn only_an_authorized_caller_on_an_exposed_port_resumes_a_sandbox() {
    let gateway = with_resume_time(2);
    gateway.denies(to(8080, "asleep"));
    gateway.denies(to(9501, "asleep"));
    gateway.denies(bearer(to(8080, "asleep"), "tl_apiKey_wrong"));
    gateway.denies(with_key(4444, "asleep"));
    gateway.fleet().change(ASLEEP, |sandbox| sandbox.project_id = "proj_other".parse().unwrap());
    gateway.host.run();
    assert_eq!(gateway.denies(with_key(8080, "asleep")).1, "SANDBOX_NOT_FOUND");
    assert_eq!(gateway.calls(RESUMES), 0);
}

#[test]
fn a_waiter_waits_at_most_30_seconds() {
    let gateway = with_resume_time(100);
    let stream = gateway.send(with_key(8080, "asleep"));
    gateway.advance_ms(29_800);
    assert!(is_pending(&stream));
    gateway.advance_ms(400);
    assert_eq!(denied(&stream), denial(503, "SANDBOX_NOT_READY"));
    assert!(replied(&stream).headers.contains("retry-after"));
}

#[test]
fn a_waiter_with_its_own_timeout_gets_its_reply_half_a_second_before_the_timeout() {
    let gateway = with_resume_time(100);
    let stream = gateway.send(with_timeout(with_key(8080, "asleep"), "5000"));
    let long = gateway.send(with_timeout(with_key(8080, "asleep"), "60000"));
    gateway.advance_ms(4_300);
    assert!(is_pending(&stream));
    gateway.advance_ms(350);
    assert_eq!(denied(&stream), denial(503, "SANDBOX_NOT_READY"));
    gateway.advance_ms(54_000);
    assert!(is_pending(&long));
    gateway.advance_ms(1_100);
    assert_eq!(denied(&long), denial(503, "SANDBOX_NOT_READY"));
    assert!(gateway.calls(RESUMES) <= 4, "a longer wait repeats the call, but not more often");
}

#[test]
fn a_malformed_or_extreme_timeout_does_not_trap() {
    let gateway = with_resume_time(1);
    for value in
        ["", "-1", "abc", "1e9", "99999999999999999999999", "0", "100", "18446744073709551615"]
    {
        let stream = gateway.send(with_timeout(with_key(8080, "asleep"), value));
        let ends = matches!(stream.outcome(), Outcome::Pending | Outcome::Replied(_));
        assert!(ends, "{value}: {:?}", stream.outcome());
    }
    gateway.advance_ms(40_000);
}

#[test]
fn a_waiter_that_aborts_does_not_affect_others() {
    let gateway = with_resume_time(2);
    let first = gateway.send(with_key(8080, "asleep"));
    let second = gateway.send(with_key(8080, "asleep"));
    gateway.advance_ms(1_000);
    first.abort();
    gateway.advance_ms(1_100);
    forwarded(&second);
    assert_eq!(gateway.calls(RESUMES), 1);
}

#[test]
fn a_resume_that_the_control_plane_refuses_is_denied_as_not_running() {
    let gateway = with_resume_time(2);
    gateway.fleet().resume_answer = Some(marked(409, &error("NOT_RESUMABLE")));
    assert_eq!(gateway.denies(with_key(8080, "asleep")), denial(503, "SANDBOX_NOT_RUNNING"));
    gateway.fleet().resume_answer = Some(marked(404, &error("SANDBOX_NOT_FOUND")));
    assert_eq!(gateway.denies(with_key(8080, "asleep")), denial(404, "SANDBOX_NOT_FOUND"));
}

#[test]
fn a_failed_resume_is_denied_as_not_ready_and_can_be_retried() {
    for answer in [Answer::connection_refused(), Answer::broken(), marked(500, &error("OOPS"))] {
        let gateway = with_resume_time(2);
        gateway.fleet().resume_answer = Some(answer);
        let stream = gateway.send(with_key(8080, "asleep"));
        gateway.advance_ms(300);
        assert_eq!(denied(&stream), denial(503, "SANDBOX_NOT_READY"));
        gateway.fleet().resume_answer = None;
        gateway.advance_ms(2_000);
        let again = gateway.send(with_key(8080, "asleep"));
        gateway.advance_ms(2_100);
        forwarded(&again);
    }
}

#[test]
fn the_control_plane_stops_during_a_resume() {
    let gateway = with_resume_time(5);
    let stream = gateway.send(with_key(8080, "asleep"));
    gateway.advance_ms(1_000);
    gateway.fleet().health = Health::Down;
    gateway.advance_ms(31_000);
    assert_eq!(denied(&stream), denial(503, "SANDBOX_NOT_READY"));
    gateway.fleet().health = Health::Good;
    gateway.advance_ms(5_000);
    let again = gateway.send(with_key(8080, "asleep"));
    gateway.advance_ms(6_000);
    forwarded(&again);
}

#[test]
fn requests_wait_for_a_sandbox_that_is_still_pending_after_a_resume() {
    let gateway = with_resume_time(2);
    let stream = gateway.send(with_key(8080, "asleep"));
    gateway.advance_ms(500);
    gateway.fleet().change(ASLEEP, |sandbox| sandbox.state = SandboxState::Pending);
    gateway.advance_ms(1_000);
    assert!(is_pending(&stream));
    gateway.advance_ms(1_000);
    forwarded(&stream);
}

#[test]
fn a_sandbox_deleted_during_its_resume_is_not_found() {
    let gateway = with_resume_time(2);
    let stream = gateway.send(with_key(8080, "asleep"));
    gateway.advance_ms(500);
    gateway.fleet().resume_answer = Some(marked(404, &error("SANDBOX_NOT_FOUND")));
    gateway.advance_ms(3_000);
    assert_eq!(denied(&stream), denial(404, "SANDBOX_NOT_FOUND"));
}

#[test]
fn a_caller_whose_credential_is_revoked_during_the_wait_is_denied() {
    let gateway = with_resume_time(5);
    let stream = gateway.send(with_key(8080, "asleep"));
    gateway.advance_ms(1_000);
    gateway.fleet().revoke(super::support::KEY);
    gateway.advance_ms(5_000);
    assert_eq!(denied(&stream), denial(401, "INVALID_CREDENTIALS"));
}
