//! Changes that close live streams.

use super::host::{Headers, Outcome, Stream};
use sandgate_policy::gateway_api::SandboxState;

use super::support::{
    Gateway, KEY, MY_ENV, PAT, SHOP, bearer, forwarded, in_project, to, websocket, with_key,
};

/// An open WebSocket.
pub(crate) fn open(gateway: &Gateway, headers: Headers) -> Stream {
    let stream = gateway.send(websocket(headers));
    forwarded(&stream);
    stream
        .respond(Headers::from([(":status", "101"), ("upgrade", "websocket")]))
        .expect("a response");
    stream
}

pub(crate) fn warm() -> Gateway {
    let gateway = Gateway::new();
    gateway.passes(with_key(8080, "my-env"));
    gateway
}

/// The time within which a change takes effect, in milliseconds.
pub(crate) const SOON_MS: u64 = 2_000;

#[test]
fn when_a_port_is_unexposed_its_streams_are_closed_and_others_are_not() {
    let gateway = warm();
    let on_8080 = open(&gateway, with_key(8080, "my-env"));
    let by_id = open(&gateway, with_key(8080, MY_ENV));
    let on_3000 = open(&gateway, with_key(3000, "my-env"));
    let management = open(&gateway, with_key(9501, "my-env"));
    let elsewhere = open(&gateway, to(8080, "shop"));
    gateway.fleet().change(MY_ENV, |sandbox| sandbox.exposed_ports = vec![3000]);
    gateway.advance_ms(SOON_MS);
    assert_eq!(on_8080.outcome(), Outcome::Reset);
    assert_eq!(by_id.outcome(), Outcome::Reset);
    for stream in [&on_3000, &management, &elsewhere] {
        assert!(stream.is_open());
    }
    let reason = on_8080.property("sandgate_decision").unwrap_or_default();
    assert!(reason.starts_with("closed"), "access logs have the reason: {reason}");
}

#[test]
fn when_a_sandbox_becomes_private_anonymous_streams_are_closed() {
    let gateway = warm();
    let public = open(&gateway, to(8080, "shop"));
    gateway.fleet().change(SHOP, |sandbox| sandbox.allow_unauthenticated_access = false);
    gateway.advance_ms(SOON_MS);
    assert_eq!(public.outcome(), Outcome::Reset);
}

#[test]
fn when_a_sandbox_stops_moves_or_changes_its_project_its_streams_are_closed() {
    type Change = fn(&mut sandgate_policy::gateway_api::Sandbox);
    let changes: [Change; 5] = [
        |sandbox| sandbox.state = SandboxState::Suspended,
        |sandbox| sandbox.state = SandboxState::Terminated,
        |sandbox| sandbox.generation += 1,
        |sandbox| sandbox.address = "127.64.0.99".parse().ok(),
        |sandbox| sandbox.project_id = "proj_other".parse().unwrap(),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let gateway = warm();
        let stream = open(&gateway, with_key(8080, "my-env"));
        gateway.fleet().change(MY_ENV, change);
        gateway.advance_ms(SOON_MS);
        assert_eq!(stream.outcome(), Outcome::Reset, "change {number}");
    }
}

#[test]
fn when_a_sandbox_is_started_again_elsewhere_its_old_streams_are_closed_before_it_runs() {
    let gateway = warm();
    let stream = open(&gateway, with_key(8080, "my-env"));
    gateway.fleet().change(MY_ENV, |sandbox| {
        sandbox.state = SandboxState::Pending;
        sandbox.generation += 1;
        sandbox.address = "127.64.0.99".parse().ok();
    });
    gateway.advance_ms(SOON_MS);
    assert_eq!(stream.outcome(), Outcome::Reset, "another sandbox may have its address now");
}

#[test]
fn when_a_credential_is_revoked_its_streams_are_closed_and_no_others() {
    let gateway = warm();
    let with_api_key = open(&gateway, with_key(8080, "my-env"));
    let with_token = open(&gateway, in_project(bearer(to(8080, "my-env"), PAT)));
    gateway.fleet().revoke(KEY);
    gateway.advance_ms(SOON_MS);
    assert_eq!(with_api_key.outcome(), Outcome::Reset);
    assert!(with_token.is_open());
}

#[test]
fn when_a_credential_expires_its_streams_are_closed() {
    let gateway = Gateway::new();
    let expiry = gateway.host.unix_time() + 10;
    gateway.fleet().expire(KEY, expiry);
    gateway.passes(with_key(8080, "my-env"));
    let stream = open(&gateway, with_key(8080, "my-env"));
    gateway.advance_ms(9_000);
    assert!(stream.is_open());
    gateway.advance_ms(1_000 + SOON_MS);
    assert_eq!(stream.outcome(), Outcome::Reset);
}

#[test]
fn a_stream_depends_on_its_credential_once_its_port_becomes_private() {
    let gateway = Gateway::new();
    gateway.fleet().expire(PAT, gateway.host.unix_time() + 20);
    let with_api_key = open(&gateway, with_key(8080, "shop"));
    let with_token = open(&gateway, in_project(bearer(to(8080, "shop"), PAT)));
    let with_wrong_key = open(&gateway, bearer(to(8080, "shop"), "tl_apiKey_nobodys"));
    gateway.fleet().change(SHOP, |sandbox| sandbox.allow_unauthenticated_access = false);
    gateway.advance_ms(SOON_MS);
    assert!(with_api_key.is_open() && with_token.is_open(), "they would be permitted now");
    assert_eq!(with_wrong_key.outcome(), Outcome::Reset);
    gateway.fleet().revoke(KEY);
    gateway.advance_ms(SOON_MS);
    assert_eq!(with_api_key.outcome(), Outcome::Reset);
    assert!(with_token.is_open());
    gateway.advance_ms(20_000);
    assert_eq!(with_token.outcome(), Outcome::Reset, "it has expired");
}

#[test]
fn a_stream_does_not_depend_on_its_credential_once_its_port_becomes_public() {
    let gateway = warm();
    let stream = open(&gateway, with_key(8080, "my-env"));
    gateway.fleet().change(MY_ENV, |sandbox| sandbox.allow_unauthenticated_access = true);
    gateway.advance_ms(SOON_MS);
    gateway.fleet().revoke(KEY);
    gateway.advance_ms(SOON_MS);
    assert!(stream.is_open());
    gateway.fleet().change(MY_ENV, |sandbox| sandbox.allow_unauthenticated_access = false);
    gateway.advance_ms(SOON_MS);
    assert_eq!(stream.outcome(), Outcome::Reset);
}

#[test]
fn a_forwarded_preflight_is_closed_like_any_other_stream() {
    type Change = fn(&mut sandgate_policy::gateway_api::Sandbox);
    let changes: [Change; 4] = [
        |sandbox| sandbox.state = SandboxState::Terminated,
        |sandbox| sandbox.exposed_ports.clear(),
        |sandbox| sandbox.allow_unauthenticated_access = false,
        |sandbox| sandbox.generation += 1,
    ];
    for origin in ["https://app.example.com", "https://other.example"] {
        for (number, change) in changes.into_iter().enumerate() {
            let gateway = Gateway::new();
            let request = Headers::request("OPTIONS", "8080-shop.sandbox.localhost", "/")
                .with("origin", origin)
                .with("access-control-request-method", "PUT");
            let stream = gateway.send(request);
            forwarded(&stream);
            gateway.fleet().change(SHOP, change);
            gateway.advance_ms(SOON_MS);
            assert_eq!(stream.outcome(), Outcome::Reset, "{origin}, change {number}");
        }
    }
}

#[test]
fn a_stream_is_closed_when_its_sandbox_gets_an_address_outside_sandbox_cidrs() {
    let gateway = warm();
    let stream = open(&gateway, with_key(8080, "my-env"));
    gateway.fleet().change(MY_ENV, |sandbox| sandbox.address = "127.0.0.1".parse().ok());
    gateway.advance_ms(SOON_MS);
    assert_eq!(stream.outcome(), Outcome::Reset);
}

#[test]
fn a_key_that_is_revoked_while_a_snapshot_is_taken_closes_its_streams() {
    let gateway = Gateway::new();
    let stream = open(&gateway, with_key(8080, "shop"));
    gateway.fleet().change(SHOP, |sandbox| {
        sandbox.state = SandboxState::Snapshotting;
        sandbox.allow_unauthenticated_access = false;
    });
    gateway.advance_ms(SOON_MS);
    assert!(stream.is_open(), "it continues to run");
    gateway.fleet().revoke(KEY);
    gateway.advance_ms(SOON_MS);
    assert_eq!(stream.outcome(), Outcome::Reset);
}
