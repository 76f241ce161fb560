//! Random interleavings of events.

use proptest::prelude::*;
use proptest::sample::Index;
use sandgate_policy::gateway_api::SandboxState;

use super::fleet::{BAD_KEY, KEY, NAMES};
use super::host::{Host, State};
use super::invariants::{LIMITS, check, check_nothing_is_left};
use crate::ingress::StreamId;

#[derive(Clone, Debug)]
enum Event {
    Request {
        client: u8,
        sandbox: usize,
        port: usize,
        key: usize,
        is_preflight: bool,
    },
    /// A lookup in flight is answered, or fails with or without a response.
    Answer(Index),
    Fail(Index, bool),
    /// The same for the change feed.
    AnswerFeed,
    FailFeed,
    Wake,
    Advance(u64),
    End(Index),
    Response(Index, bool),
    /// A sandbox changes, and the feed will report it.
    Move(usize),
    SetState(usize, usize),
    SetPublic(usize, bool),
    Expose(usize, bool),
    SetKey(bool),
    LoseChanges,
    RefuseCalls(bool),
    FailToForward(bool),
    FailToClose(bool),
}

const STATES: [SandboxState; 4] = [
    SandboxState::Running,
    SandboxState::Suspended,
    SandboxState::Pending,
    SandboxState::Terminated,
];

fn event() -> impl Strategy<Value = Event> {
    let sandbox = || 0..NAMES.len();
    // Anonymous requests to the first sandbox are frequent, so that it becomes full.
    let target = prop_oneof![3 => Just(0), 2 => sandbox()];
    let port = prop_oneof![4 => Just(0), 1 => Just(1)];
    let key = prop_oneof![3 => Just(0), 2 => Just(1), 1 => Just(2)];
    let request = (0..3_u8, target, port, key, prop::bool::weighted(0.1));
    prop_oneof![
        12 => request.prop_map(|(client, sandbox, port, key, is_preflight)| {
            Event::Request { client, sandbox, port, key, is_preflight }
        }),
        8 => any::<Index>().prop_map(Event::Answer),
        2 => any::<(Index, bool)>().prop_map(|(which, response)| Event::Fail(which, response)),
        4 => Just(Event::AnswerFeed),
        1 => Just(Event::FailFeed),
        6 => Just(Event::Wake),
        4 => (1..4_000_u64).prop_map(Event::Advance),
        1 => (4_000..40_000_u64).prop_map(Event::Advance),
        3 => any::<Index>().prop_map(Event::End),
        1 => any::<(Index, bool)>().prop_map(|(which, valid)| Event::Response(which, valid)),
        1 => sandbox().prop_map(Event::Move),
        2 => (sandbox(), 0..STATES.len()).prop_map(|(which, state)| Event::SetState(which, state)),
        2 => (sandbox(), any::<bool>()).prop_map(|(which, is)| Event::SetPublic(which, is)),
        1 => (sandbox(), any::<bool>()).prop_map(|(which, is)| Event::Expose(which, is)),
        1 => any::<bool>().prop_map(Event::SetKey),
        1 => Just(Event::LoseChanges),
        1 => prop::bool::weighted(0.3).prop_map(Event::RefuseCalls),
        1 => prop::bool::weighted(0.3).prop_map(Event::FailToForward),
        1 => prop::bool::weighted(0.3).prop_map(Event::FailToClose),
    ]
}

fn request(host: &mut Host, client: u8, sandbox: usize, port: usize, key: usize, preflight: bool) {
    let sandbox = NAMES.get(sandbox).expect("a sandbox");
    let authority = if port == 0 { format!("8080-{sandbox}") } else { (*sandbox).to_owned() };
    let authorization = match key {
        0 => None,
        1 => Some(format!("Bearer {KEY}")),
        _ => Some(format!("Bearer {BAD_KEY}")),
    };
    let mut fields: Vec<(&str, &str)> = Vec::new();
    fields.extend(authorization.as_deref().map(|value| ("authorization", value)));
    if preflight {
        let origin = ("origin", "https://app.example.org");
        fields.extend([(":method", "OPTIONS"), origin, ("access-control-request-method", "PUT")]);
    }
    host.request(client, &authority, &fields);
}

fn apply(host: &mut Host, event: &Event) {
    let change = |host: &mut Host, which: usize, change: &dyn Fn(&mut _)| {
        host.fleet.change(NAMES.get(which).expect("a sandbox"), change);
    };
    match event {
        Event::Request { client, sandbox, port, key, is_preflight } => {
            request(host, *client, *sandbox, *port, *key, *is_preflight);
        }
        Event::Answer(which) => {
            if let Some(call) = pick(&host.lookups(), which) {
                host.answer(call);
            }
        }
        Event::Fail(which, with_response) => {
            if let Some(call) = pick(&host.lookups(), which) {
                host.fail(call, *with_response);
            }
        }
        Event::AnswerFeed => host.feed_call().into_iter().for_each(|call| host.answer(call)),
        Event::FailFeed => host.feed_call().into_iter().for_each(|call| host.fail(call, false)),
        Event::Wake => host.wake(),
        Event::Advance(ms) => host.advance(*ms),
        Event::End(which) => {
            // The host also reports the end of streams that it has denied or closed.
            let open = host.streams.iter().filter(|(_, state)| **state != State::Ended);
            let open: Vec<StreamId> = open.map(|(stream, _)| *stream).collect();
            if let Some(stream) = pick(&open, which) {
                host.end(stream);
            }
        }
        Event::Response(which, is_valid) => {
            if let Some(stream) = pick(&host.streams_in(&State::Live), which) {
                assert_eq!(host.response(stream, if *is_valid { "200" } else { "99" }), *is_valid);
            }
        }
        Event::Move(which) => change(host, *which, &|sandbox| sandbox.generation += 1),
        Event::SetState(which, state) => {
            let state = *STATES.get(*state).expect("a state");
            change(host, *which, &|sandbox| sandbox.state = state);
        }
        Event::SetPublic(which, is_public) => {
            change(host, *which, &|sandbox| sandbox.allow_unauthenticated_access = *is_public);
        }
        Event::Expose(which, is_exposed) => change(host, *which, &|sandbox| {
            sandbox.exposed_ports = if *is_exposed { vec![8080] } else { Vec::new() };
        }),
        Event::SetKey(is_valid) => host.fleet.set_key(*is_valid),
        Event::LoseChanges => {
            host.fleet.changes.clear();
            host.fleet.must_reset = true;
        }
        Event::RefuseCalls(refuses) => host.refuses_calls = *refuses,
        Event::FailToForward(fails) => host.fails_to_forward = *fails,
        Event::FailToClose(fails) => host.fails_to_close = *fails,
    }
}

fn pick<T: Copy>(from: &[T], which: &Index) -> Option<T> {
    (!from.is_empty()).then(|| *which.get(from))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..Default::default() })]

    #[test]
    fn no_request_is_lost_and_all_bounds_hold(
        events in prop::collection::vec(event(), 1..120)
    ) {
        let mut host = Host::new(LIMITS);
        for event in &events {
            apply(&mut host, event);
            check(&host);
        }
        // Once the control plane works, every request is decided within seconds.
        (host.refuses_calls, host.fails_to_forward, host.fails_to_close) = (false, false, false);
        for name in NAMES {
            host.fleet.change(name, |sandbox| sandbox.state = SandboxState::Running);
        }
        for _ in 0..30 {
            host.advance(100);
            host.feed_call().into_iter().for_each(|call| host.answer(call));
            host.answer_all();
            check(&host);
        }
        prop_assert_eq!(host.streams_in(&State::Waiting), [] as [StreamId; 0]);
        for stream in host.streams_in(&State::Live) {
            host.end(stream);
        }
        check_nothing_is_left(&host);
    }
}
