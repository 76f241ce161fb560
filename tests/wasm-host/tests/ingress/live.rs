//! Streams that were permitted and would not be any more are closed.

use std::time::Duration;

use sandgate_policy::gateway_api::SandboxState;
use sandgate_wasm_host::{Headers, Outcome, Stream};
use serde_json::json;

use crate::support::fleet::Health;
use crate::support::{
    Gateway, KEY, MY_ENV, PAT, SHOP, bearer, forwarded, in_project, is_pending, to, websocket,
    with_key,
};

/// A WebSocket that has been answered, on a gateway whose feed runs.
fn open(gateway: &Gateway, headers: Headers) -> Stream {
    let stream = gateway.send(websocket(headers));
    forwarded(&stream);
    stream
        .respond(Headers::from([(":status", "101"), ("upgrade", "websocket")]))
        .expect("a response");
    stream
}

fn warm() -> Gateway {
    let gateway = Gateway::new();
    gateway.passes(with_key(8080, "my-env"));
    gateway
}

/// The time in which a change must have been acted on.
const SOON_MS: u64 = 2_000;

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
    assert!(reason.starts_with("closed"), "access logs say why: {reason}");
}

/// Requests that wait for lookups must not keep a stream from being judged.
#[test]
fn a_flood_of_lookups_does_not_keep_a_revoked_caller() {
    let gateway = Gateway::with_limits(json!({"lookups_in_flight": 10}));
    gateway.passes(with_key(8080, "my-env"));
    let stream = open(&gateway, with_key(9501, "my-env"));
    gateway.fleet().delay = Duration::from_millis(300);
    let flood: Vec<_> =
        (0..400).map(|number| gateway.send(to(8080, &format!("unknown-{number}")))).collect();
    gateway.fleet().revoke(KEY);
    gateway.advance_ms(SOON_MS);
    assert_eq!(stream.outcome(), Outcome::Reset);
    assert!(flood.iter().any(is_pending), "the flood is over");
}

#[test]
fn when_a_sandbox_becomes_private_streams_of_nobody_are_closed() {
    let gateway = warm();
    let public = open(&gateway, to(8080, "shop"));
    gateway.fleet().change(SHOP, |sandbox| sandbox.allow_unauthenticated_access = false);
    gateway.advance_ms(SOON_MS);
    assert_eq!(public.outcome(), Outcome::Reset);
}

#[test]
fn when_a_sandbox_stops_moves_or_changes_hands_its_streams_are_closed() {
    type Change = fn(&mut sandgate_policy::gateway_api::Sandbox);
    let changes: [Change; 5] = [
        |sandbox| sandbox.state = SandboxState::Suspended,
        |sandbox| sandbox.state = SandboxState::Terminated,
        |sandbox| sandbox.generation += 1,
        |sandbox| sandbox.address = "127.64.0.99".parse().ok(),
        |sandbox| sandbox.project_id = "proj_other".into(),
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
    assert_eq!(stream.outcome(), Outcome::Reset, "its address can be another sandbox's by now");
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
fn a_stream_of_a_port_that_turned_private_rests_on_its_credential_from_then_on() {
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
fn a_stream_of_a_port_that_turned_public_rests_on_nobody() {
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
fn a_stream_that_began_as_a_preflight_is_closed_like_any_other() {
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
fn a_stream_whose_sandbox_is_said_to_be_outside_of_the_sandboxes_network_is_closed() {
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
    assert!(stream.is_open(), "it runs on");
    gateway.fleet().revoke(KEY);
    gateway.advance_ms(SOON_MS);
    assert_eq!(stream.outcome(), Outcome::Reset);
}

#[test]
fn a_change_that_leaves_it_permitted_closes_nothing() {
    let gateway = warm();
    let stream = open(&gateway, with_key(8080, "my-env"));
    gateway.fleet().change(MY_ENV, |sandbox| sandbox.exposed_ports.push(9999));
    gateway.fleet().change(MY_ENV, |sandbox| sandbox.name = Some("my-env".into()));
    gateway.advance_ms(60_000);
    assert!(stream.is_open());
}

#[test]
fn a_control_plane_that_is_down_closes_nothing() {
    let gateway = warm();
    let stream = open(&gateway, with_key(8080, "my-env"));
    gateway.fleet().health = Health::Down;
    gateway.advance_ms(600_000);
    assert!(stream.is_open());
    gateway.fleet().health = Health::Good;
    gateway.advance_ms(10_000);
    assert!(stream.is_open());
}

#[test]
fn what_changed_while_the_control_plane_was_down_closes_streams_when_it_is_back() {
    let gateway = warm();
    let stream = open(&gateway, with_key(8080, "my-env"));
    gateway.fleet().health = Health::Down;
    gateway.advance_ms(60_000);
    gateway.fleet().change(MY_ENV, |sandbox| sandbox.exposed_ports.clear());
    gateway.fleet().health = Health::Good;
    gateway.advance_ms(3_500 + SOON_MS);
    assert_eq!(stream.outcome(), Outcome::Reset);
}

#[test]
fn a_thousand_streams_are_closed_with_few_calls() {
    let gateway = warm();
    let streams: Vec<Stream> = (0..900).map(|_| open(&gateway, with_key(8080, "my-env"))).collect();
    let before = gateway.calls("");
    gateway.fleet().change(MY_ENV, |sandbox| sandbox.exposed_ports.clear());
    gateway.advance_ms(5_000);
    let open = streams.iter().filter(|stream| stream.is_open()).count();
    assert_eq!(open, 0, "still open");
    let made = gateway.calls("") - before;
    assert!(made <= 10, "{made} calls");
}

/// Whoever has many streams, and keeps changing what they rest on, must not keep those of others
/// from being closed.
#[test]
fn streams_that_cannot_be_judged_yet_hold_up_no_others() {
    let gateway = warm();
    let many: Vec<Stream> = (0..600).map(|_| open(&gateway, with_key(8080, "my-env"))).collect();
    let other = open(&gateway, to(8080, "shop"));
    gateway.fleet().hang_on = Some(MY_ENV.to_owned());
    gateway.fleet().change(MY_ENV, |sandbox| sandbox.exposed_ports = vec![8080]);
    gateway.advance_ms(100);
    gateway.fleet().change(SHOP, |sandbox| sandbox.exposed_ports = vec![]);
    for _ in 0..5 {
        gateway.fleet().change(MY_ENV, |sandbox| sandbox.exposed_ports.push(3000));
        gateway.advance_ms(100);
    }
    assert_eq!(other.outcome(), Outcome::Reset);
    assert!(many.iter().all(Stream::is_open));
}

#[test]
fn a_stream_that_waits_for_its_response_is_closed_too() {
    let gateway = warm();
    let stream = gateway.send(with_key(8080, "my-env"));
    forwarded(&stream);
    gateway.fleet().change(MY_ENV, |sandbox| sandbox.exposed_ports.clear());
    gateway.advance_ms(SOON_MS);
    assert_eq!(stream.outcome(), Outcome::Reset);
}

#[test]
fn changes_in_quick_succession_reset_a_stream_once() {
    let gateway = warm();
    let first = open(&gateway, to(8080, "shop"));
    let second = open(&gateway, to(8080, "shop"));
    gateway.fleet().delay = std::time::Duration::from_millis(50);
    for _ in 0..3 {
        gateway.fleet().change(SHOP, |sandbox| sandbox.generation += 1);
        gateway.advance_ms(10);
    }
    // The host fails the test if one is reset again after its end.
    gateway.advance_ms(SOON_MS);
    assert_eq!(first.outcome(), Outcome::Reset);
    assert_eq!(second.outcome(), Outcome::Reset);
}
