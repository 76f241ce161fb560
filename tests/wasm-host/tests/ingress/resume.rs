//! Requests to a suspended sandbox: who may wake it, how often, and how long they wait.

use std::time::Duration;

use sandgate_policy::gateway_api::SandboxState;
use sandgate_wasm_host::{Answer, Headers, Outcome, Stream};
use serde_json::json;

use crate::support::fleet::{Health, error, marked};
use crate::support::{
    ASLEEP, Gateway, bearer, denial, denied, forwarded, is_pending, replied, to, with_key,
};

const RESUMES: &str = "POST /gateway/v1/sandboxes/";

fn with_timeout(headers: Headers, ms: &str) -> Headers {
    headers.with("x-tensorlake-request-timeout-ms", ms)
}

/// A gateway whose feed runs, and a sandbox that takes that long to wake.
fn waking_in(seconds: u64) -> Gateway {
    let gateway = Gateway::new();
    gateway.passes(to(8080, "shop"));
    gateway.fleet().resume_time = Duration::from_secs(seconds);
    gateway
}

#[test]
fn a_suspended_sandbox_is_resumed_and_the_request_goes_to_its_new_address() {
    let gateway = waking_in(2);
    for port in [8080, 9501] {
        let stream = gateway.send(with_key(port, "asleep"));
        assert_eq!(is_pending(&stream), port == 8080, "awake by then");
        gateway.advance_ms(2_000);
        let upstream = forwarded(&stream).upstream;
        assert_eq!(upstream, Some(format!("127.64.0.5:{port}")));
        assert!(stream.property("sandgate_generation").is_some_and(|group| group.contains('2')));
    }
    assert_eq!(gateway.calls(&format!("{RESUMES}{ASLEEP}/resume")), 1);
}

#[test]
fn two_hundred_waiters_make_one_resume() {
    let gateway = waking_in(3);
    let streams: Vec<Stream> =
        (0..200).map(|_| gateway.host.request(with_key(8080, "asleep"))).collect();
    gateway.advance_ms(2_900);
    assert!(streams.iter().all(is_pending));
    gateway.advance_ms(200);
    for stream in &streams {
        forwarded(stream);
    }
    assert_eq!(gateway.calls(RESUMES), 1);
}

#[test]
fn only_an_authorized_caller_and_an_exposed_port_wake_it() {
    let gateway = waking_in(2);
    gateway.denies(to(8080, "asleep"));
    gateway.denies(to(9501, "asleep"));
    gateway.denies(bearer(to(8080, "asleep"), "tl_apiKey_wrong"));
    gateway.denies(with_key(4444, "asleep"));
    gateway.fleet().change(ASLEEP, |sandbox| sandbox.project_id = "proj_other".into());
    gateway.host.run();
    assert_eq!(gateway.denies(with_key(8080, "asleep")).1, "SANDBOX_NOT_FOUND");
    assert_eq!(gateway.calls(RESUMES), 0);
}

#[test]
fn a_waiter_waits_30_seconds_and_no_longer() {
    let gateway = waking_in(100);
    let stream = gateway.send(with_key(8080, "asleep"));
    gateway.advance_ms(29_800);
    assert!(is_pending(&stream));
    gateway.advance_ms(400);
    assert_eq!(denied(&stream), denial(503, "SANDBOX_NOT_READY"));
    assert!(replied(&stream).headers.contains("retry-after"));
}

#[test]
fn a_waiter_with_a_timeout_of_its_own_is_answered_half_a_second_before_it() {
    let gateway = waking_in(100);
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
    assert!(gateway.calls(RESUMES) <= 4, "who waits longer asks again, and not more often");
}

#[test]
fn a_timeout_that_makes_no_sense_is_survived() {
    let gateway = waking_in(1);
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
fn a_waiter_that_goes_away_disturbs_nobody() {
    let gateway = waking_in(2);
    let first = gateway.send(with_key(8080, "asleep"));
    let second = gateway.send(with_key(8080, "asleep"));
    gateway.advance_ms(1_000);
    first.abort();
    gateway.advance_ms(1_100);
    forwarded(&second);
    assert_eq!(gateway.calls(RESUMES), 1);
}

#[test]
fn a_resume_that_the_control_plane_refuses_is_not_running() {
    let gateway = waking_in(2);
    gateway.fleet().resume_answer = Some(marked(409, &error("NOT_RESUMABLE")));
    assert_eq!(gateway.denies(with_key(8080, "asleep")), denial(503, "SANDBOX_NOT_RUNNING"));
    gateway.fleet().resume_answer = Some(marked(404, &error("SANDBOX_NOT_FOUND")));
    assert_eq!(gateway.denies(with_key(8080, "asleep")), denial(404, "SANDBOX_NOT_FOUND"));
}

#[test]
fn a_resume_that_fails_is_not_ready_and_can_be_tried_again() {
    for answer in [Answer::connection_refused(), Answer::broken(), marked(500, &error("OOPS"))] {
        let gateway = waking_in(2);
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
fn the_control_plane_dies_during_a_resume() {
    let gateway = waking_in(5);
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
fn a_sandbox_that_is_still_pending_after_a_resume_is_waited_for() {
    let gateway = waking_in(2);
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
    let gateway = waking_in(2);
    let stream = gateway.send(with_key(8080, "asleep"));
    gateway.advance_ms(500);
    gateway.fleet().resume_answer = Some(marked(404, &error("SANDBOX_NOT_FOUND")));
    gateway.advance_ms(3_000);
    assert_eq!(denied(&stream), denial(404, "SANDBOX_NOT_FOUND"));
}

#[test]
fn a_caller_whose_credential_is_revoked_while_it_waits_does_not_get_in() {
    let gateway = waking_in(5);
    let stream = gateway.send(with_key(8080, "asleep"));
    gateway.advance_ms(1_000);
    gateway.fleet().revoke(crate::support::KEY);
    gateway.advance_ms(5_000);
    assert_eq!(denied(&stream), denial(401, "INVALID_CREDENTIALS"));
}

#[test]
fn through_a_public_port_a_sandbox_is_resumed_once_in_10_seconds() {
    let gateway = waking_in(1);
    gateway.fleet().change(ASLEEP, |sandbox| sandbox.allow_unauthenticated_access = true);
    gateway.host.run();
    let first = gateway.send(to(8080, "asleep"));
    let second = gateway.send(to(8080, "asleep"));
    gateway.advance_ms(1_100);
    forwarded(&first);
    forwarded(&second);
    assert_eq!(gateway.calls(RESUMES), 1);
    gateway.fleet().change(ASLEEP, |sandbox| sandbox.state = SandboxState::Suspended);
    gateway.host.run();
    let too_soon = gateway.send(to(8080, "asleep"));
    assert_eq!(denied(&too_soon), denial(503, "SANDBOX_NOT_READY"));
    let seconds = replied(&too_soon).headers.value("retry-after").unwrap();
    assert!((7..=10).contains(&seconds.parse::<u32>().unwrap()), "{seconds}");
    assert_eq!(gateway.calls(RESUMES), 1);
    gateway.advance_ms(9_000);
    gateway.send(to(8080, "asleep"));
    assert_eq!(gateway.calls(RESUMES), 2);
}

#[test]
fn a_public_resume_says_so_and_the_control_planes_own_limit_is_passed_on() {
    let gateway = waking_in(1);
    gateway.fleet().change(ASLEEP, |sandbox| sandbox.allow_unauthenticated_access = true);
    gateway.host.run();
    let headers = Headers::new().with("x-sandgate-control-plane", "v1").with("retry-after", "7");
    gateway.fleet().resume_answer = Some(Answer::respond(429, &headers, "{}"));
    let stream = gateway.send(to(8080, "asleep"));
    assert_eq!(denied(&stream), denial(503, "SANDBOX_NOT_READY"));
    assert_eq!(replied(&stream).headers.value("retry-after").as_deref(), Some("7"));
    let calls = gateway.host.calls();
    let resume = calls.iter().find(|call| call.path().ends_with("/resume")).expect("a resume");
    assert!(resume.text().contains(r#""public":true"#), "{}", resume.text());
}

#[test]
fn an_authorized_caller_is_not_held_back_by_the_limit_for_public_ports() {
    let gateway = waking_in(60);
    gateway.fleet().change(ASLEEP, |sandbox| sandbox.allow_unauthenticated_access = true);
    gateway.host.run();
    let public = gateway.send(with_timeout(to(8080, "asleep"), "1000"));
    gateway.advance_ms(1_000);
    assert_eq!(denied(&public).1, "SANDBOX_NOT_READY");
    let owner = gateway.send(with_key(9501, "asleep"));
    assert!(is_pending(&owner));
    let calls = gateway.host.calls();
    assert!(calls.iter().any(|call| call.text().contains(r#""public":false"#)));
}

#[test]
fn one_projects_waiters_leave_room_for_others() {
    let gateway = Gateway::with_limits(json!({"waiters": 20, "resume_waiters_per_project": 5}));
    gateway.passes(to(8080, "shop"));
    gateway.fleet().resume_time = Duration::from_secs(60);
    gateway.fleet().change(ASLEEP, |sandbox| sandbox.allow_unauthenticated_access = true);
    gateway.host.run();
    let anonymous: Vec<Stream> =
        (0..30).map(|_| gateway.send(with_timeout(to(8080, "asleep"), "300000"))).collect();
    // One of the five is for callers who are known.
    assert_eq!(anonymous.iter().filter(|stream| is_pending(stream)).count(), 4);
    assert_eq!(denied(&anonymous[29]), denial(503, "SANDBOX_NOT_READY"));
    // What is not known can still be asked for, and waited for.
    assert_eq!(gateway.denies(to(8080, "nobody")), denial(401, "UNAUTHENTICATED"));
    gateway.passes(with_key(8080, "my-env"));
    // Nobody says for how long an anonymous client may take a place.
    gateway.advance_ms(30_100);
    assert!(!anonymous.iter().any(is_pending));
}

#[test]
fn more_waiters_than_the_limit_are_told_to_come_again() {
    let gateway = Gateway::with_limits(json!({"waiters": 5}));
    gateway.passes(to(8080, "shop"));
    let streams: Vec<Stream> = (0..8).map(|_| gateway.send(with_key(8080, "asleep"))).collect();
    assert_eq!(streams.iter().filter(|stream| is_pending(stream)).count(), 5);
    for stream in streams.iter().filter(|stream| !is_pending(stream)) {
        assert_eq!(denied(stream), denial(503, "SANDBOX_NOT_READY"));
    }
    gateway.advance_ms(2_100);
    assert_eq!(streams.iter().filter(|stream| stream.is_open()).count(), 5);
    forwarded(&streams[0]);
}
