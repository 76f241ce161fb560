//! Live streams during outages, under load, and with many changes.

use std::time::Duration;

use super::host::{Outcome, Stream};
use serde_json::json;

use super::live::{SOON_MS, open, warm};
use super::support::fleet::Health;
use super::support::{Gateway, KEY, MY_ENV, SHOP, forwarded, is_pending, to, with_key};

/// Requests that wait for lookups must not delay the re-evaluation of live streams.
#[test]
fn a_flood_of_lookups_does_not_keep_a_revoked_callers_stream_open() {
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
fn a_change_that_still_permits_the_stream_closes_nothing() {
    let gateway = warm();
    let stream = open(&gateway, with_key(8080, "my-env"));
    gateway.fleet().change(MY_ENV, |sandbox| sandbox.exposed_ports.push(9999));
    gateway.fleet().change(MY_ENV, |sandbox| sandbox.name = Some("my-env".into()));
    gateway.advance_ms(60_000);
    assert!(stream.is_open());
}

#[test]
fn an_outage_of_the_control_plane_closes_nothing() {
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
fn changes_during_an_outage_close_streams_when_the_control_plane_is_back() {
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

/// An owner with many streams who keeps changing their sandbox must not delay the closing of other
/// streams.
#[test]
fn streams_whose_reevaluation_waits_do_not_delay_others() {
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
fn a_stream_without_a_response_is_closed_too() {
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
    // The host fails the test if the filter resets a stream that has ended.
    gateway.advance_ms(SOON_MS);
    assert_eq!(first.outcome(), Outcome::Reset);
    assert_eq!(second.outcome(), Outcome::Reset);
}
