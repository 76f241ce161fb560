//! Random sequences of everything that can happen to streams, on three workers, with callbacks that fail or panic, and with
//! responses and ends inside of hooks. Nothing is forwarded without a permit, and afterwards the module works.

use proptest::prelude::*;
use proptest::sample::select;

use super::envoy::{Headers, Injected, Outcome, Stream};
use super::faults::{assert_works, is_denial};
use super::suite::support::fleet::Health;
use super::suite::support::{
    Gateway, KEY, MY_ENV, PLAIN_KEY, SHOP, bearer, cases, configuration, to, websocket,
};

/// Longer than any request waits and than a call takes, in milliseconds.
const LONGEST_WAIT_MS: u64 = 70_000;

#[derive(Clone, Copy, Debug)]
enum Step {
    Request {
        worker: usize,
        name: &'static str,
        port: u16,
        key: Option<&'static str>,
        grpc: bool,
    },
    WebSocket {
        worker: usize,
        name: &'static str,
    },
    /// Something happens to one of the streams.
    Abort(usize),
    Complete(usize),
    Respond(usize),
    Trailers(usize, bool),
    Body(usize, bool),
    /// One event of the loop, or all of them.
    Event,
    Run,
    Wait(u64),
    /// The next callbacks: one of them fails.
    Inject(usize, Injected),
    DestroyLater(bool),
    DestroyEnded,
    RespondInside(Option<u16>),
    Health(Health),
    Expose(bool),
    Publish(bool),
    Configure,
}

fn step() -> impl Strategy<Value = Step> {
    let name = || select(vec!["my-env", "shop", "asleep", "theirs", "gone", MY_ENV]);
    let port = select(vec![8080u16, 8080, 3000, 9501]);
    let key = proptest::option::of(select(vec![KEY, PLAIN_KEY, "wrong"]));
    let what = select(vec![Injected::Refusal, Injected::Panic]);
    let health =
        select(vec![Health::Good, Health::Good, Health::Down, Health::Breaks, Health::Hangs]);
    prop_oneof![
        12 => (0..3usize, name(), port, key, any::<bool>()).prop_map(
            |(worker, name, port, key, grpc)| Step::Request { worker, name, port, key, grpc }
        ),
        2 => (0..3usize, name()).prop_map(|(worker, name)| Step::WebSocket { worker, name }),
        4 => any::<usize>().prop_map(Step::Abort),
        2 => any::<usize>().prop_map(Step::Complete),
        4 => any::<usize>().prop_map(Step::Respond),
        2 => any::<(usize, bool)>().prop_map(|(index, is_request)| Step::Trailers(index, is_request)),
        2 => any::<(usize, bool)>().prop_map(|(index, is_request)| Step::Body(index, is_request)),
        14 => Just(Step::Event),
        4 => Just(Step::Run),
        4 => (0..3_000u64).prop_map(Step::Wait),
        3 => (1..20usize, what).prop_map(|(at, what)| Step::Inject(at, what)),
        2 => any::<bool>().prop_map(Step::DestroyLater),
        2 => Just(Step::DestroyEnded),
        1 => proptest::option::of(select(vec![200u16, 101, 503])).prop_map(Step::RespondInside),
        1 => health.prop_map(Step::Health),
        1 => any::<bool>().prop_map(Step::Expose),
        1 => any::<bool>().prop_map(Step::Publish),
        1 => Just(Step::Configure),
    ]
}

/// A stream, and what its client sent.
struct Sent {
    stream: Stream,
    name: &'static str,
    port: u16,
    key: Option<&'static str>,
}

impl Sent {
    /// Whether the request may have been forwarded there at some time of any test.
    fn may_reach(&self, upstream: &str) -> bool {
        let is_key = matches!(self.key, Some(KEY | PLAIN_KEY));
        let port = self.port;
        match self.name {
            "shop" => upstream == format!("127.64.0.3:{port}") && (is_key || port == 8080),
            "my-env" | MY_ENV => upstream == format!("127.64.0.2:{port}") && is_key,
            "asleep" => upstream == format!("127.64.0.5:{port}") && is_key,
            _ => false,
        }
    }
}

fn take(gateway: &Gateway, sent: &mut Vec<Sent>, step: Step) {
    let host = &gateway.host;
    let pick = |index: usize| sent.get(index % sent.len().max(1)).map(|one| one.stream.clone());
    let is_forwarded =
        |stream: &Stream| stream.is_open() && matches!(stream.outcome(), Outcome::Forwarded(_));
    let internal = ("x-sandgate-a", "1");
    match step {
        Step::Request { worker, name, port, key, grpc } => {
            let headers = key.map_or(to(port, name), |key| bearer(to(port, name), key));
            let headers =
                if grpc { headers.with("content-type", "application/grpc") } else { headers };
            let stream = host.request_at(worker, headers);
            sent.push(Sent { stream, name, port, key });
        }
        Step::WebSocket { worker, name } => {
            let stream = host.request_at(worker, websocket(bearer(to(8080, name), KEY)));
            sent.push(Sent { stream, name, port: 8080, key: Some(KEY) });
        }
        Step::Abort(index) => pick(index).into_iter().for_each(|stream| stream.abort()),
        Step::Complete(index) => pick(index).into_iter().for_each(|stream| stream.complete()),
        Step::Respond(index) => {
            let response = Headers::from([(":status", "200"), internal]);
            let stream = pick(index).filter(is_forwarded);
            let passed = stream.and_then(|stream| stream.respond(response));
            assert!(passed.is_none_or(|headers| !headers.contains("x-sandgate-a")));
        }
        Step::Trailers(index, is_request) => {
            let trailers = Headers::from([internal]);
            let passed = pick(index).filter(is_forwarded).and_then(|stream| match is_request {
                true => stream.send_trailers(trailers),
                false => stream.respond_with_trailers(trailers),
            });
            assert!(passed.is_none_or(|trailers| trailers.is_empty()));
        }
        Step::Body(index, is_request) => {
            if let Some(stream) = pick(index).filter(is_forwarded) {
                stream.send_body(is_request, 9);
            }
        }
        Step::Event => {
            host.run_once();
        }
        Step::Run => host.run(),
        Step::Wait(ms) => gateway.advance_ms(ms),
        Step::Inject(at, what) => host.inject(at, what),
        Step::DestroyLater(later) => host.destroys_later(later),
        Step::DestroyEnded => host.destroy_ended(),
        Step::RespondInside(status) => {
            let response =
                |status: u16| Headers::from([(":status", &*status.to_string()), internal]);
            host.responds_immediately(status.map(response));
        }
        Step::Health(health) => gateway.fleet().health = health,
        Step::Expose(all) => gateway.fleet().change(MY_ENV, |sandbox| {
            sandbox.exposed_ports = if all { vec![3000, 8080] } else { vec![3000] };
        }),
        Step::Publish(public) => gateway.fleet().change(SHOP, |sandbox| {
            sandbox.allow_unauthenticated_access = public;
        }),
        // It is refused if a callback fails.
        Step::Configure => drop(host.configure(&configuration().to_string())),
    }
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn whatever_happens_nothing_is_forwarded_without_a_permit_and_the_module_goes_on(
        steps in proptest::collection::vec(step(), 1..100)
    ) {
        let gateway = Gateway::configured(&configuration(), 3);
        let mut sent = Vec::new();
        for step in steps {
            take(&gateway, &mut sent, step);
        }
        gateway.fleet().health = Health::Good;
        gateway.host.end_injection();
        gateway.host.responds_immediately(None);
        gateway.host.destroy_ended();
        let is_pending =
            |one: &Sent| one.stream.is_open() && one.stream.outcome() == Outcome::Pending;
        for _ in 0..LONGEST_WAIT_MS / 1_000 {
            gateway.advance_ms(1_000);
            if !sent.iter().any(is_pending) {
                break;
            }
        }
        for one in &sent {
            match one.stream.outcome() {
                Outcome::Pending => prop_assert!(!one.stream.is_open(), "{} is left hanging", one.name),
                Outcome::Forwarded(forwarded) => {
                    let upstream = forwarded.upstream.clone().expect("no request goes to the public API");
                    prop_assert!(one.may_reach(&upstream), "{} of {:?} reached {upstream}", one.name, one.key);
                    // Of a public port, a secret that does not look like one of the platform's is the app's.
                    prop_assert!(!forwarded.headers.mention(KEY), "{forwarded:?}");
                    prop_assert!(one.name == "shop" || !forwarded.headers.mention(PLAIN_KEY));
                }
                Outcome::Aborted => {}
                outcome => prop_assert!(
                    is_denial(&outcome) || matches!(&outcome, Outcome::Replied(it) if it.status == 502),
                    "{outcome:?}"
                ),
            }
            if one.stream.is_open() {
                one.stream.complete();
            }
        }
        gateway.host.destroy_ended();
        prop_assert_eq!(gateway.host.objects(), (0, 0), "streams and schedulers that are left");
        // A poll of the change feed may still hang. Without streams, no worker is woken while the time passes.
        gateway.advance_ms(LONGEST_WAIT_MS);
        gateway.fleet().change(SHOP, |sandbox| sandbox.allow_unauthenticated_access = true);
        gateway.advance_ms(2_000);
        assert_works(&gateway, "at the end");
    }
}
