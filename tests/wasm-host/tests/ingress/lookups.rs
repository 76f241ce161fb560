//! Lookups: in parallel, shared by waiting requests, and with clients that abort.

use std::time::Duration;

use super::host::{Outcome, Stream, WORKERS_SHARE_A_HUB};

use super::support::{
    Gateway, KEY, MY_ENV, PLAIN_KEY, bearer, denial, denied, forwarded, is_pending, to, with_key,
};

const ROUND_TRIP: Duration = Duration::from_millis(40);

/// A gateway whose feed runs, and whose lookups take some time.
fn slow() -> Gateway {
    let gateway = Gateway::new();
    gateway.passes(to(8080, "shop"));
    gateway.fleet().delay = ROUND_TRIP;
    gateway
}

#[test]
fn the_first_request_of_a_worker_waits_for_one_round_trip() {
    let gateway = Gateway::new();
    gateway.fleet().delay = ROUND_TRIP;
    let stream = gateway.send(with_key(8080, "my-env"));
    gateway.host.advance(ROUND_TRIP);
    forwarded(&stream);
}

#[test]
fn sandbox_and_credential_are_looked_up_in_one_round_trip() {
    let gateway = slow();
    let stream = gateway.send(with_key(8080, "my-env"));
    assert_eq!(gateway.calls("GET /gateway/v1/sandboxes/my-env"), 1);
    assert_eq!(gateway.calls("POST /gateway/v1/credentials/introspect"), 1);
    assert!(is_pending(&stream));
    gateway.host.advance(ROUND_TRIP);
    assert_eq!(forwarded(&stream).upstream.as_deref(), Some("127.64.0.2:8080"));
}

#[test]
fn a_second_request_needs_no_lookup() {
    let gateway = Gateway::new();
    gateway.passes(with_key(8080, "my-env"));
    let calls = gateway.calls("");
    for _ in 0..10 {
        let stream = gateway.host.request(with_key(3000, "my-env"));
        assert_eq!(forwarded(&stream).upstream.as_deref(), Some("127.64.0.2:3000"));
    }
    assert_eq!(gateway.calls("") - calls, 0);
}

/// Envoy's VM runs out of stack after 304 replies in one callback, and then all live streams of the
/// worker hang. The host of these tests fails above 256.
#[test]
fn a_thousand_requests_that_one_response_denies_all_get_a_reply() {
    let gateway = slow();
    let unknown: Vec<Stream> = (0..500).map(|_| gateway.host.request(to(8080, "nobody"))).collect();
    let wrong = bearer(to(9501, "my-env"), "tl_apiKey_wrong");
    let wrong: Vec<Stream> = (0..500).map(|_| gateway.host.request(wrong.clone())).collect();
    gateway.advance_ms(1_000);
    for stream in &unknown {
        assert_eq!(denied(stream), denial(401, "UNAUTHENTICATED"));
    }
    for stream in &wrong {
        assert_eq!(denied(stream), denial(401, "INVALID_CREDENTIALS"));
    }
}

#[test]
fn nine_hundred_waiters_make_one_lookup() {
    let gateway = slow();
    let streams: Vec<_> =
        (0..900).map(|_| gateway.host.request(with_key(8080, "my-env"))).collect();
    gateway.host.run();
    assert!(streams.iter().all(is_pending));
    gateway.host.advance(ROUND_TRIP);
    for stream in &streams {
        assert_eq!(forwarded(stream).upstream.as_deref(), Some("127.64.0.2:8080"));
    }
    assert_eq!(gateway.calls("GET /gateway/v1/sandboxes/my-env"), 1);
    assert_eq!(gateway.calls("POST /gateway/v1/credentials/introspect"), 1);
}

#[test]
fn waiters_with_different_credentials_share_only_the_sandbox_lookup() {
    let gateway = slow();
    let mine = gateway.send(with_key(8080, "my-env"));
    let other = gateway.send(bearer(to(8080, "my-env"), PLAIN_KEY));
    let wrong = gateway.send(bearer(to(8080, "my-env"), "tl_apiKey_wrong"));
    let anonymous = gateway.send(to(8080, "my-env"));
    gateway.host.advance(ROUND_TRIP);
    gateway.host.advance(ROUND_TRIP);
    assert_eq!(mine.property("sandgate_principal").as_deref(), Some("key_1"));
    assert_eq!(other.property("sandgate_principal").as_deref(), Some("key_2"));
    forwarded(&mine);
    forwarded(&other);
    assert_eq!(denied(&wrong).1, "INVALID_CREDENTIALS");
    assert_eq!(denied(&anonymous).1, "UNAUTHENTICATED");
    assert_eq!(gateway.calls("GET /gateway/v1/sandboxes/my-env"), 1);
    assert_eq!(gateway.calls("POST /gateway/v1/credentials/introspect"), 3);
}

#[test]
fn a_bearer_token_that_may_be_the_apps_own_is_sent_to_the_control_plane_only_if_the_port_is_not_public()
 {
    let gateway = slow();
    let stream = gateway.send(bearer(to(8080, "my-env"), PLAIN_KEY));
    assert_eq!(gateway.calls("POST /gateway/v1/credentials/introspect"), 0);
    gateway.host.advance(ROUND_TRIP);
    assert_eq!(gateway.calls("POST /gateway/v1/credentials/introspect"), 1);
    gateway.host.advance(ROUND_TRIP);
    forwarded(&stream);
}

#[test]
fn a_client_that_aborts_during_a_lookup_does_not_affect_others() {
    let gateway = slow();
    let first = gateway.send(with_key(8080, "my-env"));
    let second = gateway.send(with_key(8080, "my-env"));
    let third = gateway.send(with_key(8080, "my-env"));
    gateway.advance_ms(10);
    first.abort();
    third.abort();
    gateway.host.advance(ROUND_TRIP);
    assert_eq!(first.outcome(), Outcome::Aborted);
    assert_eq!(third.outcome(), Outcome::Aborted);
    forwarded(&second);
    second.complete();
    gateway.passes(with_key(8080, "my-env"));
    assert_eq!(gateway.calls("GET /gateway/v1/sandboxes/my-env"), 1);
}

#[test]
fn the_response_is_cached_even_if_the_only_client_aborts() {
    let gateway = slow();
    let only = gateway.host.request(with_key(8080, "my-env"));
    only.abort();
    let again = gateway.send(with_key(8080, MY_ENV));
    again.abort();
    gateway.advance_ms(1_000);
    gateway.passes(with_key(8080, MY_ENV));
    assert_eq!(gateway.calls(&format!("GET /gateway/v1/sandboxes/{MY_ENV}")), 1);
}

#[test]
fn workers_share_lookups_and_the_change_feed_if_they_share_a_hub() {
    let gateway = Gateway::configured(&super::support::configuration(), 4);
    for worker in 0..4 {
        gateway.host.request_at(worker, to(8080, "shop"));
    }
    gateway.host.run();
    let streams: Vec<_> =
        (0..4).map(|worker| gateway.host.request_at(worker, with_key(8080, "my-env"))).collect();
    gateway.host.run();
    for stream in &streams {
        forwarded(stream);
    }
    let hubs = if WORKERS_SHARE_A_HUB { 1 } else { 4 };
    assert_eq!(gateway.calls("GET /gateway/v1/sandboxes/my-env"), hubs);
    let polls = gateway.calls("GET /gateway/v1/changes");
    assert_eq!(polls, 2 * hubs, "a feed each: first and next call");
    let watchers: std::collections::BTreeSet<String> = gateway
        .host
        .calls()
        .iter()
        .filter_map(|call| Some(call.path().split_once("watcher=")?.1.split('&').next()?.into()))
        .collect();
    assert_eq!(watchers.len(), hubs, "each has its own name: {watchers:?}");
}

#[test]
fn a_lookup_that_fails_at_dispatch_is_denied_without_waiting() {
    let gateway = Gateway::new();
    gateway.host.max_calls(0);
    let stream = gateway.send(with_key(8080, "my-env"));
    assert_eq!(denied(&stream).0, 503);
    gateway.host.clusters(&[]);
    let stream = gateway.send(with_key(8080, "my-env"));
    assert_eq!(denied(&stream).0, 503);
}

#[test]
fn a_credential_lookup_contains_only_kind_secret_and_project() {
    let gateway = Gateway::new();
    gateway.passes(bearer(to(8080, "my-env"), KEY).with("x-private", "do not tell"));
    for call in gateway.host.calls() {
        assert!(!call.headers.mention(KEY), "secrets are only in bodies: {call:?}");
        assert!(!call.headers.mention("do not tell") && !call.text().contains("do not tell"));
        assert_eq!(call.headers.value(":authority").as_deref(), Some("gateway.sandgate.internal"));
        assert_eq!(call.cluster, "sandgate_control_plane");
    }
    let bodies: Vec<_> = gateway.host.calls().iter().map(super::host::Call::text).collect();
    assert!(bodies.contains(&format!(r#"{{"kind":"api_key","secret":"{KEY}"}}"#)), "{bodies:?}");
}
