//! The rows of the decision table that the filter decides.

use super::host::Headers;
use sandgate_policy::gateway_api::SandboxState;

use super::support::{
    ASLEEP, DOMAIN, Gateway, MY_ENV, SHOP, bearer, denial, denied, forwarded, in_project, replied,
    to, with_key, with_session,
};

#[test]
fn a_permitted_request_is_forwarded_to_the_sandbox_and_shown_in_access_logs() {
    for host in ["my-env", MY_ENV] {
        let gateway = Gateway::new();
        let stream = gateway.send(with_key(8080, host));
        assert_eq!(forwarded(&stream).upstream.as_deref(), Some("127.64.0.2:8080"));
        // Envoy writes the access log at the end.
        stream.complete();
        for (name, value) in [("sandgate_decision", "permit"), ("sandgate_principal", "key_1")] {
            assert_eq!(stream.property(name).as_deref(), Some(value), "{name} of {host}");
        }
        let generation = stream.property("sandgate_generation").expect("for connection pools");
        assert!(generation.contains(MY_ENV) && generation.contains('1'), "{generation}");
    }
}

#[test]
fn every_permit_is_counted_once() {
    let gateway = Gateway::new();
    (0..3).for_each(|_| drop(gateway.passes(with_key(8080, "my-env"))));
    gateway.advance_ms(200);
    assert_eq!(gateway.host.metric("sandgate_ingress_decisions_total.permit"), 3);
}

#[test]
fn an_unparsable_host_is_400_without_a_lookup() {
    let gateway = Gateway::new();
    for host in [
        "",
        "example.com",
        "my-env.sandbox.localhost.evil.test",
        "8080-my-env.other.localhost",
        "a.b.sandbox.localhost",
        "08080-my-env.sandbox.localhost",
        "65536-my-env.sandbox.localhost",
        "0-my-env.sandbox.localhost",
        "8080-my-env-.sandbox.localhost",
        "8080-.sandbox.localhost",
        "9x.sandbox.localhost",
        "my_env.sandbox.localhost",
        "8080-my-env.sandbox.localhost..",
        "8080-my-env.sandbox.localhost:port",
        "127.0.0.1",
        "[::1]:8080",
        "8080-my-env.sandbox.localhost/x",
        "user@8080-my-env.sandbox.localhost",
    ] {
        let answer = gateway.denies(bearer(Headers::get(host, "/"), super::support::KEY));
        assert_eq!(answer, denial(400, "INVALID_HOST"), "{host}");
    }
    assert!(gateway.host.calls().is_empty());
}

#[test]
fn a_host_is_accepted_in_any_case_with_a_port_and_with_a_trailing_dot() {
    let gateway = Gateway::new();
    for host in [
        "8080-MY-ENV.Sandbox.LOCALHOST",
        "8080-my-env.sandbox.localhost:9443",
        "8080-my-env.local.",
    ] {
        let forwarded = gateway.passes(bearer(Headers::get(host, "/"), super::support::KEY));
        assert_eq!(forwarded.upstream.as_deref(), Some("127.64.0.2:8080"), "{host}");
        assert_eq!(forwarded.headers.value(":authority").as_deref(), Some(host), "untouched");
    }
}

#[test]
fn a_repeated_host_is_400() {
    let headers = with_key(8080, "my-env").with(":authority", format!("8080-shop.{DOMAIN}"));
    assert_eq!(Gateway::new().denies(headers), denial(400, "INVALID_REQUEST"));
}

#[test]
fn without_a_credential_everything_that_is_not_public_gets_the_same_denial() {
    let gateway = Gateway::new();
    let mut answers = Vec::new();
    for headers in [
        to(8080, "my-env"),
        to(8080, "no-such-sandbox"),
        to(8080, "0123456789abcdefghijk"),
        to(4444, "my-env"),
        to(4444, "shop"),
        to(9501, "my-env"),
        to(9501, "shop"),
        to(9501, "no-such-sandbox"),
        Headers::get(&format!("shop.{DOMAIN}"), "/"),
        to(8080, "asleep"),
        to(8080, "theirs"),
    ] {
        let stream = gateway.send(headers);
        assert_eq!(denied(&stream), denial(401, "UNAUTHENTICATED"));
        let reply = replied(&stream);
        assert_eq!(reply.headers.values("www-authenticate"), ["Bearer"]);
        answers.push(reply);
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:#?}");
}

#[test]
fn an_invalid_credential_is_401_for_every_sandbox() {
    let gateway = Gateway::new();
    for sandbox in ["my-env", "no-such-sandbox", "theirs", "asleep"] {
        for port in [8080, 4444, 9501] {
            let stream = gateway.send(bearer(to(port, sandbox), "tl_apiKey_wrong"));
            assert_eq!(denied(&stream), denial(401, "INVALID_CREDENTIALS"), "{port} {sandbox}");
            let challenge = replied(&stream).headers.value("www-authenticate");
            assert!(challenge.is_some_and(|challenge| challenge.starts_with("Bearer")));
        }
    }
}

#[test]
fn a_token_or_session_without_organization_and_project_is_400() {
    let gateway = Gateway::new();
    let session = to(8080, "my-env").with("cookie", "tl.session_token=session-of-alice");
    for headers in [
        bearer(to(8080, "my-env"), super::support::PAT),
        bearer(to(8080, "my-env"), super::support::PAT).with("x-forwarded-project-id", "proj_1"),
        session,
    ] {
        assert_eq!(gateway.denies(headers), denial(400, "PROJECT_CONTEXT_REQUIRED"));
    }
}

#[test]
fn unknown_terminated_and_foreign_sandboxes_get_the_same_404() {
    let gateway = Gateway::new();
    gateway.fleet().change(ASLEEP, |sandbox| sandbox.state = SandboxState::Terminated);
    let replies: Vec<_> = ["no-such-sandbox", "theirs", "asleep"]
        .iter()
        .flat_map(|name| [8080, 4444, 9501].map(|port| gateway.send(with_key(port, name))))
        .map(|stream| {
            assert_eq!(denied(&stream), denial(404, "SANDBOX_NOT_FOUND"));
            replied(&stream)
        })
        .collect();
    assert!(replies.iter().all(|reply| *reply == replies[0]), "{replies:#?}");
}

#[test]
fn a_port_that_is_not_exposed_is_403() {
    let gateway = Gateway::new();
    assert_eq!(gateway.denies(with_key(4444, "my-env")), denial(403, "PORT_NOT_EXPOSED"));
    assert_eq!(gateway.denies(with_key(4444, "shop")), denial(403, "PORT_NOT_EXPOSED"));
}

#[test]
fn a_cookie_on_an_unsafe_method_of_another_origin_is_403() {
    let headers = Headers::request("POST", &format!("8080-my-env.{DOMAIN}"), "/");
    let headers = with_session(headers).with("origin", "https://evil.test");
    assert_eq!(Gateway::new().denies(headers), denial(403, "CROSS_ORIGIN"));
}

#[test]
fn requests_above_the_limit_of_a_sandbox_are_429() {
    // One of the three slots is reserved for management.
    let gateway = Gateway::with_limits(serde_json::json!({"requests_per_sandbox": 3}));
    let first = gateway.send(with_key(8080, "my-env"));
    let second = gateway.send(with_key(3000, MY_ENV));
    let third = gateway.send(with_key(8080, "my-env"));
    assert_eq!(denied(&third), denial(429, "TOO_MANY_REQUESTS"));
    assert!(replied(&third).headers.contains("retry-after"));
    gateway.passes(to(8080, "shop"));
    first.complete();
    gateway.passes(with_key(8080, "my-env"));
    second.abort();
    gateway.passes(with_key(8080, "my-env"));
}

#[test]
fn a_suspended_sandbox_without_auto_resume_is_503_without_retry_after() {
    let gateway = Gateway::new();
    gateway.fleet().change(ASLEEP, |sandbox| sandbox.auto_resume = false);
    assert_eq!(gateway.denies(with_key(8080, "asleep")), denial(503, "SANDBOX_NOT_RUNNING"));
    gateway.fleet().change(super::support::NAMELESS, |sandbox| {
        sandbox.state = SandboxState::Suspended;
    });
    let nameless = with_key(8080, super::support::NAMELESS);
    assert_eq!(gateway.denies(nameless), denial(503, "SANDBOX_NOT_RUNNING"));
    assert_eq!(gateway.calls("POST /gateway/v1/sandboxes/"), 0, "nothing was resumed");
}

#[test]
fn a_pending_sandbox_is_503_with_retry_after() {
    for state in [SandboxState::Pending, SandboxState::Snapshotting] {
        let gateway = Gateway::new();
        gateway.fleet().change(MY_ENV, |sandbox| sandbox.state = state);
        let stream = gateway.send(with_key(8080, "my-env"));
        assert_eq!(denied(&stream), denial(503, "SANDBOX_NOT_READY"));
        assert!(replied(&stream).headers.contains("retry-after"));
    }
}

#[test]
fn an_address_outside_of_the_sandbox_ranges_is_never_used() {
    let gateway = Gateway::new();
    for address in ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:127.64.0.2"] {
        gateway.fleet().change(SHOP, |sandbox| sandbox.address = address.parse().ok());
        let (status, _) = gateway.denies(to(8080, "shop"));
        assert_eq!(status, 503, "{address}");
    }
}

#[test]
fn the_management_port_needs_no_exposure_and_may_be_omitted_in_the_host() {
    let gateway = Gateway::new();
    let bare = bearer(Headers::get(&format!("my-env.{DOMAIN}"), "/info"), super::support::KEY);
    for headers in [bare, with_key(9501, "my-env"), with_key(9501, MY_ENV)] {
        assert_eq!(gateway.passes(headers).upstream.as_deref(), Some("127.64.0.2:9501"));
    }
    let with_token = in_project(bearer(to(9501, "my-env"), super::support::PAT));
    assert_eq!(gateway.passes(with_token).upstream.as_deref(), Some("127.64.0.2:9501"));
}
