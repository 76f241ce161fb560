//! Plain HTTP requests out of a sandbox: decisions, and failures and panics at each possible place.

use super::connections::{ERRORS, POLICY, alone, configuration};
use super::envoy::{Attributes, Headers, Host, Injected, Outcome, Stream};
use super::faults::is_denial;

fn host() -> Host {
    let host = Host::load_with_workers("sandgate_egress", 1);
    host.configure_filter("sandgate_egress_http", &configuration(POLICY)).expect("it is valid");
    host
}

fn send(host: &Host, name: &str) -> Stream {
    let destination = ("destination.address".to_owned(), b"8.8.8.8:80".to_vec());
    host.request_of("", 0, Headers::get(name, "/"), Attributes::from([destination]))
}

fn is_forwarded(stream: &Stream) -> bool {
    matches!(stream.outcome(), Outcome::Forwarded(_))
}

/// No stream is live when its host is dropped.
fn complete(streams: impl IntoIterator<Item = Stream>) {
    streams.into_iter().filter(Stream::is_open).for_each(|stream| stream.complete());
}

/// Sends a request with a failure in each of its callbacks, while another one is live. `check` gets the two. The number of
/// callbacks.
fn sweep(name: &str, what: Injected, check: impl Fn(&Host, &Stream, &Stream)) -> usize {
    let count = {
        let host = host();
        let live = send(&host, "ok.test");
        let before = host.callbacks();
        let stream = send(&host, name);
        let count = host.callbacks() - before;
        complete([live, stream]);
        count
    };
    for at in 1..=count {
        let host = host();
        let live = send(&host, "ok.test");
        assert!(is_forwarded(&live));
        host.inject(at, what);
        let stream = send(&host, name);
        assert!(host.injected().is_some(), "{name} makes fewer callbacks than before");
        check(&host, &stream, &live);
        // The policy stays active.
        assert!(is_denial(&send(&host, "bad.test").outcome()));
        let next = send(&host, "ok.test");
        assert!(is_forwarded(&next));
        complete([live, stream, next]);
    }
    count
}

#[test]
fn a_permitted_request_is_forwarded_and_a_denied_one_is_not() {
    let _alone = alone();
    let host = host();
    let permitted = send(&host, "ok.test");
    assert!(is_forwarded(&permitted));
    complete([permitted]);
    let Outcome::Replied(reply) = send(&host, "bad.test").outcome() else { panic!("no reply") };
    assert_eq!(reply.status, 403);
    assert_eq!(host.metric(ERRORS), 0);
}

/// The attack: to make the module panic at the place that leaves a request permitted, or that makes the worker forget the
/// policy or its live requests.
#[test]
fn a_panic_at_any_callback_of_a_request_ends_in_a_denial() {
    let _alone = alone();
    for name in ["ok.test", "bad.test"] {
        let count = sweep(name, Injected::Panic, |host, stream, live| {
            let case = format!("{name}: a panic in {:?}", host.injected());
            assert!(is_denial(&stream.outcome()), "{case}: {:?}", stream.outcome());
            assert_eq!(live.outcome(), Outcome::Reset, "{case}: nothing would end the live one");
            if host.injected() != Some("increment_counter") {
                assert!(host.metric(ERRORS) > 0, "{case} is not counted");
            }
        });
        assert!(count > 4, "{count}");
    }
}

#[test]
fn a_callback_of_a_request_that_envoy_refuses_permits_nothing() {
    let _alone = alone();
    sweep("bad.test", Injected::Refusal, |host, stream, live| {
        assert!(!is_forwarded(stream), "{:?} is refused", host.injected());
        assert!(is_forwarded(live));
    });
    sweep("ok.test", Injected::Refusal, |host, stream, _| {
        let outcome = stream.outcome();
        let unchanged = host.metric(ERRORS) == 0 && is_forwarded(stream);
        assert!(unchanged || is_denial(&outcome), "{:?} is refused: {outcome:?}", host.injected());
    });
}
