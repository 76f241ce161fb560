//! Callbacks that fail, code that panics, and streams that end, at each possible place of a request.
//!
//! A scenario is run once to see how it ends, and once more for each callback that it makes, with a failure injected there.
//! A panic of a callback unwinds as one of the module's own code would: in its middle, with the engine locked.

use super::envoy::{Headers, Injected, Outcome, Stream};
use super::suite::live::SOON_MS;
use super::suite::support::{
    ASLEEP, DOMAIN, Gateway, KEY, bearer, is_pending, to, websocket, with_key, with_session,
};

pub(super) const HOST_ERRORS: &str = "sandgate_ingress_host_errors_total";

/// How a request ended, as the client and the sandbox see it.
#[derive(Debug, PartialEq)]
struct Seen {
    outcome: Outcome,
    response: Option<Headers>,
    trailers: Option<Headers>,
}

type Scenario = fn(&Gateway) -> Seen;

fn seen(stream: &Stream) -> Seen {
    Seen { outcome: stream.outcome(), response: None, trailers: None }
}

/// Sends a request, and waits until its lookups have been answered or given up.
fn settle(gateway: &Gateway, headers: Headers) -> Stream {
    let stream = gateway.send(headers);
    gateway.advance_ms(8_000);
    stream
}

fn grpc(headers: Headers) -> Headers {
    headers.with("content-type", "application/grpc+proto")
}

/// What can happen to a request. Nothing is cached yet, except where a scenario says so.
const SCENARIOS: [(&str, Scenario); 12] = [
    ("a key that is looked up", |gateway| seen(&settle(gateway, with_key(8080, "my-env")))),
    ("a key that is cached", |gateway| {
        gateway.passes(with_key(8080, "my-env"));
        seen(&settle(gateway, with_key(8080, "my-env")))
    }),
    ("a public port", |gateway| seen(&settle(gateway, to(8080, "shop")))),
    ("no credential", |gateway| seen(&settle(gateway, to(8080, "my-env")))),
    ("no credential, from a gRPC client", |gateway| {
        seen(&settle(gateway, grpc(to(8080, "my-env"))))
    }),
    ("a key, from a gRPC client", |gateway| seen(&settle(gateway, grpc(with_key(8080, "my-env"))))),
    ("a session in a browser", |gateway| {
        let headers = with_session(to(8080, "my-env")).with("accept", "text/html");
        seen(&settle(gateway, headers.with("sec-fetch-mode", "navigate")))
    }),
    ("a preflight", |gateway| {
        let headers = Headers::request("OPTIONS", &format!("8080-my-env.{DOMAIN}"), "/");
        let headers = headers.with("origin", "https://app.example.com");
        seen(&settle(gateway, headers.with("access-control-request-method", "GET")))
    }),
    ("the public API", |gateway| seen(&settle(gateway, Headers::get(DOMAIN, "/sandboxes")))),
    ("a sandbox that is resumed", |gateway| seen(&settle(gateway, with_key(8080, ASLEEP)))),
    ("a response with trailers", |gateway| {
        let stream = settle(gateway, with_key(8080, "my-env"));
        stream.send_body(true, 5);
        stream.send_trailers(Headers::from([("x-sandgate-a", "1")]));
        let internal = ("x-sandgate-b", "1");
        let response = stream.respond(Headers::from([(":status", "200"), internal]));
        stream.send_body(false, 5);
        let trailers =
            stream.respond_with_trailers(Headers::from([internal, ("grpc-status", "0")]));
        Seen { outcome: stream.outcome(), response, trailers }
    }),
    ("a stream whose key is revoked", |gateway| {
        let stream = settle(gateway, websocket(with_key(8080, "my-env")));
        gateway.fleet().revoke(KEY);
        gateway.advance_ms(20_000);
        seen(&stream)
    }),
];

/// Whether the client knows that its request was denied.
pub(super) fn is_denial(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Replied(reply) => match reply.headers.value("grpc-status") {
            Some(status) => status != "0",
            None => reply.status >= 400,
        },
        Outcome::Reset => true,
        _ => false,
    }
}

/// Runs all scenarios with a failure in each callback. The number of runs.
fn sweep(what: Injected) -> usize {
    let mut runs = 0;
    for (name, scenario) in SCENARIOS {
        let (expected, callbacks) = {
            let gateway = Gateway::new();
            let before = gateway.host.callbacks();
            let expected = scenario(&gateway);
            assert_eq!(gateway.host.metric(HOST_ERRORS), 0, "{name}");
            (expected, gateway.host.callbacks() - before)
        };
        for at in 1..=callbacks {
            let gateway = Gateway::new();
            gateway.host.inject(at, what);
            let got = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| scenario(&gateway)));
            let injected = gateway.host.injected();
            let case = format!("{name}, {what:?} of callback {at}, {injected:?}");
            // The scenario asserts that its first request passes, which it may not do.
            if let Ok(got) = got {
                assert!(
                    got.outcome == expected.outcome || is_denial(&got.outcome),
                    "{case}: {got:?}"
                );
                for (got, expected) in
                    [(&got.response, &expected.response), (&got.trailers, &expected.trailers)]
                {
                    assert!(got.is_none() || got == expected, "{case}: {got:?}");
                }
            }
            // Without the counter itself, nothing can be counted.
            if what == Injected::Panic && injected.is_some_and(|it| it != "increment_counter") {
                assert!(gateway.host.metric(HOST_ERRORS) > 0, "{case} is not counted");
            }
            runs += 1;
            assert_works(&gateway, &case);
        }
    }
    runs
}

/// The next requests are judged, and live streams are closed when their permit ends.
pub(super) fn assert_works(gateway: &Gateway, case: &str) {
    gateway.advance_ms(6_000);
    let public = gateway.send(to(8080, "shop"));
    assert!(matches!(public.outcome(), Outcome::Forwarded(_)), "{case}: {:?}", public.outcome());
    assert!(is_denial(&gateway.send(to(8080, "my-env")).outcome()), "{case}");
    gateway.advance_ms(1_000);
    let shop = super::suite::support::SHOP;
    gateway.fleet().change(shop, |sandbox| sandbox.allow_unauthenticated_access = false);
    gateway.advance_ms(SOON_MS);
    assert_eq!(public.outcome(), Outcome::Reset, "{case}: the stream is not revoked");
}

#[test]
fn a_callback_that_envoy_refuses_ends_in_a_denial_or_changes_nothing() {
    assert!(sweep(Injected::Refusal) > 200);
}

#[test]
fn a_panic_at_any_callback_ends_in_a_denial_and_the_next_request_works() {
    assert!(sweep(Injected::Panic) > 200);
}

/// The panic ends the stream whose hook woke the worker, too. The engine still decides that stream.
#[test]
fn a_panic_for_one_stream_sends_no_second_reply_to_another_that_waits() {
    let run = |inject_at: Option<usize>| {
        let gateway = Gateway::new();
        gateway.host.destroys_later(true);
        let send = |name, key: Option<&str>| {
            let headers = to(8080, name);
            gateway.host.request(key.map_or(headers.clone(), |key| bearer(headers, key)))
        };
        let mut sent = vec![send("my-env", None), send("my-env", None), send(ASLEEP, Some(KEY))];
        sent.extend([send("shop", Some("an-unknown-key")), send("my-env", Some(KEY))]);
        gateway.host.run_once();
        let before = gateway.host.callbacks();
        if let Some(at) = inject_at {
            gateway.host.inject(at, Injected::Panic);
        }
        gateway.host.run();
        let callbacks = gateway.host.callbacks() - before;
        gateway.advance_ms(70_000);
        for stream in &sent {
            assert!(!is_pending(stream), "{inject_at:?}: a request is left hanging");
        }
        gateway.host.destroy_ended();
        callbacks
    };
    for at in 1..=run(None) {
        run(Some(at));
    }
}
