//! Random sequences of requests, aborts, changes, outages, and new configurations, on two workers.
//! Nothing traps, no request waits forever, and at the end no stream is open that would not be
//! permitted now.

use super::host::{Headers, Outcome, Stream};
use proptest::prelude::*;
use sandgate_policy::gateway_api::{CredentialKind, SandboxState};

use super::support::fleet::{Fleet, Health};
use super::support::{
    ASLEEP, Gateway, KEY, MY_ENV, PLAIN_KEY, SHOP, bearer, cases, to, with_limits,
};

#[derive(Clone, Debug)]
enum Step {
    Request { worker: usize, sandbox: &'static str, port: u16, secret: Option<&'static str> },
    Leave(usize),
    Complete(usize),
    Respond(usize),
    Health(Health),
    Expose(&'static str, Vec<u16>),
    Publish(&'static str, bool),
    State(&'static str, SandboxState),
    Move(&'static str),
    Revoke(&'static str),
    Allow(&'static str),
    Configure(u32),
    Slow(u64),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let name =
        || proptest::sample::select(vec!["my-env", "shop", "asleep", "theirs", "gone", MY_ENV]);
    let id = || proptest::sample::select(vec![MY_ENV, SHOP, ASLEEP]);
    let port = || proptest::sample::select(vec![8080, 3000, 9501]);
    let secret = || proptest::sample::select(vec![KEY, PLAIN_KEY]);
    let health = proptest::sample::select(vec![
        Health::Good,
        Health::Good,
        Health::Down,
        Health::Hangs,
        Health::Breaks,
        Health::Impostor,
        Health::Status(500),
    ]);
    let state = proptest::sample::select(vec![
        SandboxState::Running,
        SandboxState::Running,
        SandboxState::Suspended,
        SandboxState::Pending,
        SandboxState::Terminated,
    ]);
    prop_oneof![
        10 => (0..2usize, name(), port(), proptest::option::of(secret()))
            .prop_map(|(worker, sandbox, port, secret)| Step::Request { worker, sandbox, port, secret }),
        2 => any::<usize>().prop_map(Step::Leave),
        2 => any::<usize>().prop_map(Step::Complete),
        2 => any::<usize>().prop_map(Step::Respond),
        2 => health.prop_map(Step::Health),
        2 => (id(), proptest::collection::vec(port(), 0..3)).prop_map(|(id, ports)| Step::Expose(id, ports)),
        1 => (id(), any::<bool>()).prop_map(|(id, public)| Step::Publish(id, public)),
        1 => (id(), state).prop_map(|(id, state)| Step::State(id, state)),
        1 => id().prop_map(Step::Move),
        1 => secret().prop_map(Step::Revoke),
        1 => secret().prop_map(Step::Allow),
        1 => (1..500u32).prop_map(Step::Configure),
        1 => (0..300u64).prop_map(Step::Slow),
        6 => (0..4_000u64).prop_map(Step::Wait),
    ]
}

/// A request, and its target.
struct Sent {
    stream: Stream,
    sandbox: &'static str,
    port: u16,
    secret: Option<&'static str>,
}

impl Sent {
    /// Whether the stream may be open now. This implements the contract without code of the filter.
    fn is_permitted(&self, fleet: &Fleet) -> bool {
        let Some(sandbox) = fleet.sandbox(self.sandbox) else { return false };
        let exposed = sandbox.exposed_ports.contains(&self.port);
        let public = exposed && sandbox.allow_unauthenticated_access && self.port != 9501;
        let mine = sandbox.project_id == "proj_1" && self.secret.is_some_and(|s| fleet.knows(s));
        let reachable = public || (mine && (exposed || self.port == 9501));
        // A sandbox that will run again at the same address does not close a stream.
        let is_up = matches!(sandbox.state, SandboxState::Running | SandboxState::Pending);
        is_up && reachable
    }
}

fn take(gateway: &Gateway, sent: &mut Vec<Sent>, step: Step) {
    let pick = |index: usize| sent.get(index % sent.len().max(1)).map(|sent| &sent.stream);
    match step {
        Step::Request { worker, sandbox, port, secret } => {
            let headers = to(port, sandbox);
            let headers = secret.map_or(headers.clone(), |secret| bearer(headers, secret));
            let stream = gateway.host.request_at(worker, headers);
            sent.push(Sent { stream, sandbox, port, secret });
        }
        Step::Leave(index) => pick(index).into_iter().for_each(Stream::abort),
        Step::Complete(index) => {
            let forwarded = |stream: &&Stream| matches!(stream.outcome(), Outcome::Forwarded(_));
            pick(index).filter(forwarded).into_iter().for_each(Stream::complete);
        }
        Step::Respond(index) => {
            let forwarded = |stream: &&Stream| matches!(stream.outcome(), Outcome::Forwarded(_));
            let response = Headers::from([(":status", "200"), ("x-sandgate-a", "1")]);
            let passed = pick(index).filter(forwarded).and_then(|stream| stream.respond(response));
            assert!(passed.is_none_or(|headers| !headers.contains("x-sandgate-a")));
        }
        Step::Health(health) => gateway.fleet().health = health,
        Step::Expose(id, ports) => gateway.fleet().change(id, |sandbox| {
            sandbox.exposed_ports = ports.into_iter().filter(|port| *port != 9501).collect();
        }),
        Step::Publish(id, public) => {
            gateway.fleet().change(id, |sandbox| sandbox.allow_unauthenticated_access = public)
        }
        Step::State(id, state) => gateway.fleet().change(id, |sandbox| {
            sandbox.state = state;
            if state == SandboxState::Running {
                sandbox.address = "127.64.0.77".parse().ok();
                sandbox.generation += 1;
            }
        }),
        Step::Move(id) => gateway.fleet().change(id, |sandbox| {
            sandbox.generation += 1;
            sandbox.address = "127.64.0.78".parse().ok();
        }),
        Step::Revoke(secret) => {
            if gateway.look().knows(secret) {
                gateway.fleet().revoke(secret);
            }
        }
        Step::Allow(secret) => {
            // A secret always belongs to the same principal.
            let principal = if secret == KEY { "key_1" } else { "key_2" };
            gateway.fleet().allow(secret, CredentialKind::ApiKey, principal);
        }
        Step::Configure(waiters) => {
            let configuration = with_limits(serde_json::json!({"waiters": waiters}));
            gateway.host.configure(&configuration.to_string()).expect("a valid configuration");
        }
        Step::Slow(ms) => gateway.fleet().delay = std::time::Duration::from_millis(ms),
        Step::Wait(ms) => gateway.advance_ms(ms),
    }
    gateway.host.run();
}

proptest! {
    #![proptest_config(cases(48))]

    #[test]
    fn after_any_sequence_of_events_only_permitted_streams_are_open(
        steps in proptest::collection::vec(step(), 1..80)
    ) {
        let gateway = Gateway::configured(&super::support::configuration(), 2);
        let mut sent = Vec::new();
        for step in steps {
            take(&gateway, &mut sent, step);
        }
        gateway.fleet().health = Health::Good;
        gateway.advance_ms(70_000);
        for one in &sent {
            let outcome = one.stream.outcome();
            let (sandbox, port, secret) = (one.sandbox, one.port, one.secret);
            prop_assert!(outcome != Outcome::Pending, "left hanging: {port} of {sandbox}");
            if one.stream.is_open() {
                let permitted = one.is_permitted(&gateway.look());
                prop_assert!(permitted, "open: {port} of {sandbox} with {secret:?}");
                let Outcome::Forwarded(forwarded) = outcome else { panic!("open") };
                let fleet = gateway.look();
                let address = fleet.sandbox(sandbox).and_then(|sandbox| sandbox.address);
                let upstream = address.map(|address| format!("{address}:{port}"));
                prop_assert_eq!(forwarded.upstream, upstream, "an address that it left");
            }
        }
        // At most one change feed on each worker, for each configuration that is still in use.
        let open = sent.iter().filter(|one| one.stream.is_open()).count();
        prop_assert!(gateway.host.calls_in_flight() <= 2 * (1 + open));
        prop_assert_eq!(gateway.host.metric("sandgate_ingress_host_errors_total"), 0);
    }
}
