//! Limits of resumes and of the requests that wait for them.

use std::time::Duration;

use super::host::{Answer, Headers, Stream};
use sandgate_policy::gateway_api::SandboxState;
use serde_json::json;

use super::support::{
    ASLEEP, Gateway, denial, denied, forwarded, is_pending, replied, to, with_key,
};

const RESUMES: &str = "POST /gateway/v1/sandboxes/";
use super::resume::{with_resume_time, with_timeout};

#[test]
fn requests_to_a_public_port_resume_a_sandbox_once_in_10_seconds() {
    let gateway = with_resume_time(1);
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
fn a_resume_for_a_public_port_is_marked_and_the_control_planes_limit_is_returned_to_the_client() {
    let gateway = with_resume_time(1);
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
fn the_limit_for_public_ports_does_not_apply_to_authorized_callers() {
    let gateway = with_resume_time(60);
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
fn requests_that_wait_for_a_resume_leave_slots_for_lookups() {
    let gateway = Gateway::with_limits(json!({"waiters": 20, "resume_waiters": 5}));
    gateway.passes(to(8080, "shop"));
    gateway.fleet().resume_time = Duration::from_secs(60);
    gateway.fleet().change(ASLEEP, |sandbox| sandbox.allow_unauthenticated_access = true);
    gateway.host.run();
    let anonymous: Vec<Stream> =
        (0..30).map(|_| gateway.send(with_timeout(to(8080, "asleep"), "300000"))).collect();
    // One of the five slots is reserved for authenticated callers.
    assert_eq!(anonymous.iter().filter(|stream| is_pending(stream)).count(), 4);
    assert_eq!(denied(&anonymous[29]), denial(503, "SANDBOX_NOT_READY"));
    // Requests can still wait for lookups.
    assert_eq!(gateway.denies(to(8080, "nobody")), denial(401, "UNAUTHENTICATED"));
    gateway.passes(with_key(8080, "my-env"));
    // The filter does not choose the wait of an anonymous client.
    gateway.advance_ms(30_100);
    assert!(!anonymous.iter().any(is_pending));
}

#[test]
fn waiters_above_the_limit_get_503() {
    let gateway = Gateway::with_limits(json!({"resume_waiters": 5}));
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
