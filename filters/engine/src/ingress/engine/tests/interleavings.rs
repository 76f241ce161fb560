//! Random interleavings of events.

use proptest::prelude::*;
use proptest::sample::Index;
use sandgate_policy::gateway_api::SandboxState;

use super::fleet::{BAD_KEY, KEY, NAMES};
use super::host::{Host, State};
use super::invariants::{LIMITS, check, check_nothing_is_left};
use super::oracle::Oracle;
use crate::ingress::{CallId, StreamId};

const MOST_WORKERS: usize = 3;

#[derive(Clone, Debug)]
enum Event {
    Request {
        worker: usize,
        client: u8,
        sandbox: usize,
        port: usize,
        key: usize,
        is_preflight: bool,
    },
    /// A lookup in flight is answered, or fails with or without a response.
    Answer(Index),
    Fail(Index, bool),
    /// The control plane answers any call, and the response takes a while. Responses may overtake each other.
    Prepare(Index),
    Deliver(Index),
    /// The same for the change feed.
    AnswerFeed,
    FailFeed,
    Wake,
    /// One thread runs.
    WakeWorker(usize),
    RunHub,
    /// A worker does something else for long.
    Busy(Option<usize>),
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
    let worker = || 0..MOST_WORKERS;
    let request = (worker(), 0..3_u8, target, port, key, prop::bool::weighted(0.1));
    prop_oneof![
        12 => request.prop_map(|(worker, client, sandbox, port, key, is_preflight)| {
            Event::Request { worker, client, sandbox, port, key, is_preflight }
        }),
        8 => any::<Index>().prop_map(Event::Answer),
        2 => any::<(Index, bool)>().prop_map(|(which, response)| Event::Fail(which, response)),
        4 => Just(Event::AnswerFeed),
        1 => Just(Event::FailFeed),
        3 => any::<Index>().prop_map(Event::Prepare),
        3 => any::<Index>().prop_map(Event::Deliver),
        4 => Just(Event::Wake),
        4 => worker().prop_map(Event::WakeWorker),
        3 => Just(Event::RunHub),
        1 => prop::option::of(worker()).prop_map(Event::Busy),
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

fn request(host: &mut Host, oracle: &mut Oracle, event: &Event) {
    let Event::Request { worker, client, sandbox, port, key, is_preflight } = event else { return };
    let sandbox = NAMES.get(*sandbox).expect("a sandbox");
    let authority = if *port == 0 { format!("8080-{sandbox}") } else { (*sandbox).to_owned() };
    let credential = match key {
        0 => None,
        1 => Some(KEY),
        _ => Some(BAD_KEY),
    };
    let authorization = credential.map(|credential| format!("Bearer {credential}"));
    let mut fields: Vec<(&str, &str)> = Vec::new();
    fields.extend(authorization.as_deref().map(|value| ("authorization", value)));
    if *is_preflight {
        let origin = ("origin", "https://app.example.org");
        fields.extend([(":method", "OPTIONS"), origin, ("access-control-request-method", "PUT")]);
    }
    let ask = Oracle::ask(host, sandbox, *port != 0, credential);
    let worker = worker % host.workers.len();
    let stream = host.request_on(worker, *client, &authority, &fields);
    oracle.add(stream, ask);
}

fn apply(host: &mut Host, oracle: &mut Oracle, event: &Event) {
    let change = |host: &mut Host, which: usize, change: &dyn Fn(&mut _)| {
        host.fleet.change(NAMES.get(which).expect("a sandbox"), change);
    };
    match event {
        Event::Request { .. } => request(host, oracle, event),
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
        Event::Prepare(which) => {
            let calls: Vec<CallId> = host.calls.keys().copied().collect();
            if let Some(call) = pick(&calls, which)
                && let Some(response) = host.prepare(call)
            {
                host.prepared.push_back((call, response));
            }
        }
        Event::Deliver(which) => {
            if !host.prepared.is_empty() {
                let index = which.index(host.prepared.len());
                let prepared = host.prepared.remove(index);
                prepared.into_iter().for_each(|(call, response)| host.deliver(call, response));
            }
        }
        Event::AnswerFeed => host.feed_call().into_iter().for_each(|call| host.answer(call)),
        Event::FailFeed => host.feed_call().into_iter().for_each(|call| host.fail(call, false)),
        Event::Wake => host.wake(),
        Event::WakeWorker(worker) => host.wake_worker(worker % host.workers.len()),
        Event::RunHub => host.run_hub(),
        Event::Busy(worker) => host.busy = worker.map(|worker| worker % host.workers.len()),
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

/// Lets three seconds pass in which the control plane answers every call.
fn settle(host: &mut Host) {
    while let Some((call, response)) = host.prepared.pop_front() {
        host.deliver(call, response);
    }
    for _ in 0..30 {
        host.advance(100);
        host.feed_call().into_iter().for_each(|call| host.answer(call));
        host.answer_all();
        check(host);
    }
}

fn no_request_is_lost(mut host: Host, events: &[Event]) {
    let mut oracle = Oracle::default();
    for event in events {
        apply(&mut host, &mut oracle, event);
        check(&host);
        oracle.check(&host);
    }
    // Once the control plane works, every request is decided within seconds.
    (host.refuses_calls, host.fails_to_forward, host.fails_to_close) = (false, false, false);
    host.busy = None;
    for name in NAMES {
        host.fleet.change(name, |sandbox| sandbox.state = SandboxState::Running);
    }
    settle(&mut host);
    // The results of lookups that the feed does not cover have expired.
    host.advance(6_000);
    settle(&mut host);
    oracle.check(&host);
    oracle.check_live_streams(&host);
    // A request that waits for a slot of its sandbox gets it when another stream ends.
    for stream in host.streams_in(&State::Live) {
        host.end(stream);
    }
    settle(&mut host);
    oracle.check(&host);
    assert_eq!(host.streams_in(&State::Waiting), [] as [StreamId; 0]);
    for stream in host.streams_in(&State::Live) {
        host.end(stream);
    }
    check_nothing_is_left(&host);
}

fn pick<T: Copy>(from: &[T], which: &Index) -> Option<T> {
    (!from.is_empty()).then(|| *which.get(from))
}

/// `PROPTEST_CASES` sets another number.
fn cases(cases: u32) -> ProptestConfig {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    match std::env::var_os("PROPTEST_CASES") {
        // The default has read it.
        Some(_) => config,
        None => ProptestConfig { cases, ..config },
    }
}

proptest! {
    #![proptest_config(cases(1_500))]

    #[test]
    fn no_request_is_lost_and_all_bounds_hold(
        events in prop::collection::vec(event(), 1..120)
    ) {
        no_request_is_lost(Host::new(LIMITS), &events);
    }

    #[test]
    fn no_request_is_lost_and_all_bounds_hold_with_several_workers(
        workers in 2..=MOST_WORKERS,
        events in prop::collection::vec(event(), 1..120)
    ) {
        let mut host = Host::with_workers(workers, LIMITS);
        host.delays_notices = true;
        no_request_is_lost(host, &events);
    }

    #[test]
    fn no_request_is_lost_if_the_feed_covers_everything(
        workers in 1..=MOST_WORKERS,
        events in prop::collection::vec(event(), 1..120)
    ) {
        let mut host = Host::with_workers(workers, LIMITS);
        host.delays_notices = workers > 1;
        let first = host.request(0, "8080-shop", &[]);
        host.answer_all();
        host.end(first);
        host.answer_feed();
        host.advance(6_000);
        no_request_is_lost(host, &events);
    }
}
