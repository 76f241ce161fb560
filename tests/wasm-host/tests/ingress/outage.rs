//! The control plane is down, hangs, or another server answers in its place.

use sandgate_policy::gateway_api::SandboxState;

use super::support::fleet::Health;
use super::support::{
    Gateway, KEY, MY_ENV, PLAIN_KEY, bearer, denial, denied, forwarded, is_pending, replied, to,
    with_key,
};

/// A gateway with cached routes and credentials.
fn warm() -> Gateway {
    let gateway = Gateway::new();
    for _ in 0..2 {
        gateway.passes(with_key(8080, "my-env"));
        gateway.passes(to(8080, "shop"));
    }
    gateway
}

#[test]
fn unknown_sandboxes_and_credentials_get_different_503_codes() {
    for health in [Health::Down, Health::Breaks, Health::Impostor, Health::Status(500)] {
        let gateway = warm();
        gateway.fleet().health = health;
        gateway.host.run();
        let unknown_sandbox = gateway.send(with_key(8080, "never-seen"));
        let unknown_credential = gateway.send(bearer(to(8080, "my-env"), PLAIN_KEY));
        gateway.advance_ms(100);
        assert_eq!(denied(&unknown_sandbox), denial(503, "SANDBOX_UPSTREAM_ERROR"), "{health:?}");
        let answer = denied(&unknown_credential);
        assert_eq!(answer, denial(503, "AUTH_SERVICE_UNAVAILABLE"), "{health:?}");
        for stream in [unknown_sandbox, unknown_credential] {
            assert!(replied(&stream).headers.contains("retry-after"), "{health:?}");
        }
    }
}

#[test]
fn a_lookup_ends_at_its_timeout_if_the_control_plane_hangs() {
    let gateway = warm();
    gateway.fleet().health = Health::Hangs;
    let stream = gateway.send(with_key(8080, "never-seen"));
    gateway.advance_ms(1_900);
    assert!(is_pending(&stream));
    gateway.advance_ms(200);
    assert_eq!(denied(&stream), denial(503, "SANDBOX_UPSTREAM_ERROR"));
}

#[test]
fn a_response_without_the_marker_header_decides_nothing() {
    let gateway = Gateway::new();
    gateway.host.control_plane(|_| {
        let body = r#"{"identity": null}"#;
        super::host::Answer::respond(404, &super::host::Headers::new(), body)
    });
    assert_eq!(gateway.denies(with_key(8080, "my-env")).0, 503, "not 404, and not 401");
}

#[test]
fn cached_routes_and_credentials_work_during_an_outage() {
    let gateway = warm();
    gateway.fleet().health = Health::Down;
    gateway.advance_ms(45_000);
    let stream = gateway.send(with_key(8080, "my-env"));
    gateway.advance_ms(100);
    assert_eq!(forwarded(&stream).upstream.as_deref(), Some("127.64.0.2:8080"));
}

#[test]
fn during_an_outage_credentials_are_cached_for_60_seconds_and_routes_for_5_minutes() {
    let gateway = warm();
    gateway.fleet().health = Health::Down;
    gateway.advance_ms(58_000);
    forwarded(&settle(&gateway, with_key(8080, "my-env")));
    gateway.advance_ms(3_000);
    let late = settle(&gateway, with_key(8080, "my-env"));
    assert_eq!(denied(&late), denial(503, "AUTH_SERVICE_UNAVAILABLE"));
    gateway.advance_ms(230_000);
    forwarded(&settle(&gateway, to(8080, "shop")));
    gateway.advance_ms(10_000);
    let too_late = settle(&gateway, to(8080, "shop"));
    assert_eq!(denied(&too_late), denial(503, "SANDBOX_UPSTREAM_ERROR"));
}

#[test]
fn during_an_outage_the_age_of_an_entry_counts_from_the_last_answer_of_the_feed() {
    let gateway = warm();
    // The first lookups were sent before the feed began.
    gateway.advance_ms(6_000);
    gateway.passes(with_key(8080, "my-env"));
    gateway.advance_ms(400_000);
    gateway.fleet().health = Health::Down;
    gateway.advance_ms(20_000);
    forwarded(&settle(&gateway, with_key(8080, "my-env")));
    gateway.advance_ms(41_000);
    let late = settle(&gateway, with_key(8080, "my-env"));
    assert_eq!(denied(&late), denial(503, "AUTH_SERVICE_UNAVAILABLE"));
}

/// Sends a request, and advances the clock by the time that a failing lookup takes.
fn settle(gateway: &Gateway, headers: super::host::Headers) -> super::host::Stream {
    let stream = gateway.send(headers);
    gateway.advance_ms(200);
    stream
}

#[test]
fn a_credential_is_never_used_after_its_expiry() {
    let gateway = Gateway::new();
    gateway.fleet().expire(KEY, gateway.host.unix_time() + 20);
    gateway.passes(with_key(8080, "my-env"));
    gateway.passes(with_key(8080, "my-env"));
    gateway.fleet().health = Health::Down;
    gateway.advance_ms(19_000);
    forwarded(&settle(&gateway, with_key(8080, "my-env")));
    gateway.advance_ms(1_500);
    let expired = settle(&gateway, with_key(8080, "my-env"));
    let (status, code) = denied(&expired);
    assert!(status == 401 || status == 503, "{status} {code}");
}

#[test]
fn a_cached_denial_stays_the_same_during_an_outage() {
    let gateway = warm();
    gateway.fleet().health = Health::Down;
    let stream = settle(&gateway, with_key(4444, "my-env"));
    assert_eq!(denied(&stream), denial(403, "PORT_NOT_EXPOSED"));
    let anonymous = settle(&gateway, to(8080, "my-env"));
    assert_eq!(denied(&anonymous), denial(401, "UNAUTHENTICATED"));
}

#[test]
fn everything_works_within_seconds_after_an_outage_without_a_restart() {
    let gateway = warm();
    gateway.fleet().health = Health::Down;
    gateway.advance_ms(400_000);
    assert_eq!(denied(&settle(&gateway, with_key(8080, "my-env"))).0, 503);
    gateway.fleet().health = Health::Good;
    gateway.fleet().change(MY_ENV, |sandbox| sandbox.generation = 7);
    gateway.advance_ms(1_500);
    let stream = settle(&gateway, with_key(8080, "my-env"));
    forwarded(&stream);
    assert!(stream.property("sandgate_generation").is_some_and(|group| group.contains('7')));
    gateway.advance_ms(4_000);
    gateway.fleet().change(MY_ENV, |sandbox| sandbox.state = SandboxState::Terminated);
    gateway.host.run();
    assert_eq!(gateway.denies(with_key(8080, "my-env")).1, "SANDBOX_NOT_FOUND", "the feed works");
}

#[test]
fn calls_to_an_unreachable_control_plane_are_limited() {
    let gateway = warm();
    gateway.fleet().health = Health::Down;
    gateway.advance_ms(10_000);
    let before = gateway.calls("");
    for number in 0..1_000 {
        gateway.send(with_key(8080, &format!("unknown-{number}")));
        gateway.advance_ms(10);
    }
    let made = gateway.calls("") - before;
    assert!(made < 150, "{made} calls for 1,000 requests in 10 s");
}

#[test]
fn responses_that_violate_the_contract_count_as_failures() {
    for body in ["", "null", "{}", "[]", r#"{"id":"x"}"#, "\u{0}", r#"{"identity":{}}"#] {
        let gateway = Gateway::new();
        gateway.host.control_plane(move |_| {
            let headers = super::host::Headers::new().with("x-sandgate-control-plane", "v1");
            super::host::Answer::respond(200, &headers, body)
        });
        let stream = gateway.send(with_key(8080, "my-env"));
        gateway.advance_ms(100);
        assert_eq!(denied(&stream).0, 503, "{body:?}");
    }
}
