//! Lifetimes of cache entries, and the delay until a change takes effect.

use sandgate_policy::gateway_api::CredentialKind;

use super::support::fleet::{Health, sandbox};
use super::support::{Gateway, KEY, MY_ENV, SHOP, bearer, denial, denied, forwarded, to, with_key};

const SANDBOXES: &str = "GET /gateway/v1/sandboxes/";
const CREDENTIALS: &str = "POST /gateway/v1/credentials/";

/// A gateway that has served a request, and whose change feed runs.
fn warm() -> Gateway {
    let gateway = Gateway::new();
    gateway.passes(with_key(8080, "my-env"));
    // The change feed does not cover the first lookups: they were sent before its first response.
    gateway.advance_ms(5_000);
    gateway.passes(with_key(8080, "my-env"));
    gateway
}

#[test]
fn a_found_entry_is_cached_for_10_minutes_while_the_feed_works() {
    let gateway = warm();
    let (sandboxes, credentials) = (gateway.calls(SANDBOXES), gateway.calls(CREDENTIALS));
    gateway.advance_ms(599_000);
    gateway.passes(with_key(8080, "my-env"));
    assert_eq!((gateway.calls(SANDBOXES), gateway.calls(CREDENTIALS)), (sandboxes, credentials));
    gateway.advance_ms(1_100);
    gateway.passes(with_key(8080, "my-env"));
    let lookups = (gateway.calls(SANDBOXES) - sandboxes, gateway.calls(CREDENTIALS) - credentials);
    assert_eq!(lookups, (1, 1));
}

#[test]
fn a_found_entry_is_cached_for_5_seconds_while_the_feed_does_not_work() {
    let gateway = Gateway::new();
    gateway.fleet().feed = false;
    gateway.passes(with_key(8080, "my-env"));
    gateway.advance_ms(4_800);
    gateway.passes(with_key(8080, "my-env"));
    assert_eq!((gateway.calls(SANDBOXES), gateway.calls(CREDENTIALS)), (1, 1));
    gateway.advance_ms(300);
    gateway.passes(with_key(8080, "my-env"));
    assert_eq!((gateway.calls(SANDBOXES), gateway.calls(CREDENTIALS)), (2, 2));
}

#[test]
fn a_missing_entry_is_looked_up_again_after_2_seconds() {
    let gateway = warm();
    assert_eq!(gateway.denies(with_key(8080, "later")).1, "SANDBOX_NOT_FOUND");
    gateway.fleet().change_quietly(SHOP, |sandbox| sandbox.name = Some("later".into()));
    gateway.advance_ms(2_100);
    gateway.passes(to(8080, "later"));
}

/// The time until a denial must not reveal whether a sandbox exists. Lookups take most of that time.
#[test]
fn without_a_credential_a_private_sandbox_is_looked_up_as_often_as_a_missing_one() {
    let lookups = |sandbox: &str| -> Vec<usize> {
        let gateway = warm();
        gateway.advance_ms(10_000);
        let ask = |wait: u64| {
            gateway.advance_ms(wait);
            if sandbox == "my-env" {
                // The owner uses the sandbox all the time.
                gateway.passes(with_key(8080, sandbox));
            }
            let before = gateway.calls(SANDBOXES);
            assert_eq!(gateway.denies(to(8080, sandbox)), denial(401, "UNAUTHENTICATED"));
            gateway.calls(SANDBOXES) - before
        };
        [0, 0, 0, 1, 10, 50, 100, 900, 950, 100, 1_900, 2_100, 2_100, 10_000, 31_000]
            .map(ask)
            .to_vec()
    };
    let of_unknown = lookups("nobody");
    assert!(
        of_unknown.contains(&1) && of_unknown.contains(&0),
        "some refusals ask: {of_unknown:?}"
    );
    // `my-env` is in the cache, and `asleep` is not.
    for private in ["my-env", "asleep"] {
        assert_eq!(lookups(private), of_unknown, "{private}");
    }
}

#[test]
fn a_port_works_as_soon_as_it_is_exposed_even_if_the_feed_is_slow() {
    let gateway = warm();
    assert_eq!(gateway.denies(with_key(4444, "my-env")), denial(403, "PORT_NOT_EXPOSED"));
    gateway.advance_ms(1_000);
    gateway.fleet().change_quietly(MY_ENV, |sandbox| sandbox.exposed_ports.push(4444));
    let forwarded = gateway.passes(with_key(4444, "my-env"));
    assert_eq!(forwarded.upstream.as_deref(), Some("127.64.0.2:4444"));
}

#[test]
fn a_new_sandbox_and_a_new_credential_work_immediately_after_a_denial() {
    let gateway = warm();
    assert_eq!(gateway.denies(with_key(8080, "brand-new")).1, "SANDBOX_NOT_FOUND");
    assert_eq!(gateway.denies(bearer(to(8080, "my-env"), "tl_apiKey_new")).0, 401);
    gateway.advance_ms(600);
    let new = sandbox("brandnew0000000000009", Some("brand-new"), "127.64.0.9", &[8080]);
    gateway.fleet().change_quietly(SHOP, |shop| *shop = new);
    gateway.fleet().allow("tl_apiKey_new", CredentialKind::ApiKey, "key_new");
    gateway.passes(with_key(8080, "brand-new"));
    gateway.passes(bearer(to(8080, "my-env"), "tl_apiKey_new"));
}

#[test]
fn repeated_lookups_for_cached_denials_are_limited() {
    let gateway = warm();
    gateway.denies(with_key(4444, "my-env"));
    let before = gateway.calls("");
    for _ in 0..200 {
        assert_eq!(gateway.denies(with_key(4444, "my-env")).1, "PORT_NOT_EXPOSED");
        gateway.advance_ms(5);
    }
    let calls = gateway.calls("") - before;
    assert!(calls <= 24, "200 denials in a second made {calls} calls");
}

#[test]
fn the_feed_invalidates_cache_entries_immediately() {
    let gateway = warm();
    gateway.fleet().change(MY_ENV, |sandbox| sandbox.exposed_ports = vec![3000]);
    gateway.host.run();
    assert_eq!(gateway.denies(with_key(8080, "my-env")), denial(403, "PORT_NOT_EXPOSED"));
    gateway.passes(with_key(3000, "my-env"));
    gateway.fleet().revoke(KEY);
    gateway.host.run();
    assert_eq!(gateway.denies(with_key(3000, "my-env")).1, "INVALID_CREDENTIALS");
}

#[test]
fn a_change_by_id_invalidates_the_entry_by_name_and_vice_versa() {
    let gateway = Gateway::new();
    gateway.passes(with_key(8080, "my-env"));
    gateway.passes(with_key(8080, MY_ENV));
    gateway.fleet().change(MY_ENV, |sandbox| sandbox.exposed_ports.clear());
    gateway.host.run();
    assert_eq!(gateway.denies(with_key(8080, "my-env")).1, "PORT_NOT_EXPOSED");
    assert_eq!(gateway.denies(with_key(8080, MY_ENV)).1, "PORT_NOT_EXPOSED");
}

#[test]
fn the_feed_continues_for_hours_with_one_call_at_a_time() {
    let gateway = warm();
    let before = gateway.calls("GET /gateway/v1/changes");
    gateway.advance_ms(600_000);
    let polls = gateway.calls("GET /gateway/v1/changes") - before;
    assert!((23..=25).contains(&polls), "{polls} polls of 25 s in ten minutes");
    assert_eq!(gateway.host.calls_in_flight(), 1);
    gateway.passes(with_key(8080, "my-env"));
    gateway.fleet().change(MY_ENV, |sandbox| sandbox.exposed_ports.clear());
    gateway.host.run();
    assert_eq!(gateway.denies(with_key(8080, "my-env")).1, "PORT_NOT_EXPOSED");
}

#[test]
fn changes_during_an_outage_of_the_feed_are_applied_afterwards() {
    let gateway = warm();
    gateway.fleet().health = Health::Down;
    gateway.host.run();
    gateway.fleet().change(MY_ENV, |sandbox| sandbox.exposed_ports.clear());
    gateway.fleet().health = Health::Good;
    gateway.advance_ms(4_000);
    assert_eq!(gateway.denies(with_key(8080, "my-env")).1, "PORT_NOT_EXPOSED");
}

#[test]
fn a_change_that_overtakes_the_response_of_an_older_lookup_is_not_lost() {
    let gateway = warm();
    gateway.advance_ms(31_000);
    // The control plane generates the response now, but the change reaches the filter first.
    gateway.fleet().delay = std::time::Duration::from_millis(100);
    let stream = gateway.send(with_key(8080, "my-env"));
    gateway.advance_ms(50);
    gateway.fleet().delay = std::time::Duration::ZERO;
    gateway.fleet().change(MY_ENV, |sandbox| sandbox.exposed_ports.clear());
    gateway.advance_ms(100);
    drop(stream);
    let late = gateway.send(with_key(8080, "my-env"));
    assert_eq!(denied(&late), denial(403, "PORT_NOT_EXPOSED"));
}

#[test]
fn a_renamed_sandbox_is_not_found_by_its_old_name() {
    let gateway = warm();
    gateway.fleet().change(MY_ENV, |sandbox| sandbox.name = Some("renamed".into()));
    gateway.host.run();
    let stream = gateway.send(with_key(8080, "renamed"));
    assert_eq!(forwarded(&stream).upstream.as_deref(), Some("127.64.0.2:8080"));
}

#[test]
fn a_wall_clock_that_is_set_back_does_not_prolong_cache_entries() {
    let gateway = warm();
    let before = gateway.calls(SANDBOXES);
    gateway.host.set_clock_back(std::time::Duration::from_secs(86_400));
    gateway.advance_ms(599_000);
    gateway.passes(with_key(8080, "my-env"));
    assert_eq!(gateway.calls(SANDBOXES), before);
    gateway.advance_ms(1_200);
    gateway.passes(with_key(8080, "my-env"));
    assert_eq!(gateway.calls(SANDBOXES) - before, 1);
}

#[test]
fn a_feed_that_hangs_counts_as_down_after_a_short_time() {
    let gateway = warm();
    gateway.fleet().health = Health::Hangs;
    gateway.advance_ms(36_000);
    gateway.fleet().feed = false;
    gateway.fleet().health = Health::Good;
    gateway.fleet().change_quietly(MY_ENV, |sandbox| sandbox.exposed_ports.clear());
    gateway.advance_ms(6_000);
    assert_eq!(gateway.denies(with_key(8080, "my-env")).1, "PORT_NOT_EXPOSED");
}

#[test]
fn every_worker_receives_a_change() {
    let gateway = Gateway::configured(&super::support::configuration(), 3);
    let send = |worker| {
        let stream = gateway.host.request_at(worker, with_key(8080, "my-env"));
        gateway.host.run();
        stream
    };
    (0..3).for_each(|worker| drop(forwarded(&send(worker))));
    gateway.fleet().change(MY_ENV, |sandbox| sandbox.exposed_ports.clear());
    gateway.host.run();
    for worker in 0..3 {
        assert_eq!(denied(&send(worker)), denial(403, "PORT_NOT_EXPOSED"));
    }
}
