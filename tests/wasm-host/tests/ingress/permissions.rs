//! Random sequences of changes to one sandbox and its callers, with time to act after each change. Then
//! a live stream is open exactly if the same request would be permitted now, by the same route.

use std::cell::Cell;
use std::sync::Arc;

use super::host::{Headers, Outcome, Stream};
use proptest::prelude::*;
use proptest::sample::select;
use sandgate_policy::gateway_api::{CredentialKind, Sandbox, SandboxState};
use sandgate_policy::ingress::concurrency::InFlight;
use sandgate_policy::ingress::config::IngressConfig;
use sandgate_policy::ingress::head::Head;
use sandgate_policy::ingress::{Decision, Permit, Request, RequestFacts, Resolved, decide};

use super::support::fleet::Fleet;
use super::support::{
    DOMAIN, Gateway, KEY, PAT, PLAIN_KEY, SHOP, bearer, cases, configuration, in_project, to,
    websocket, with_session,
};

/// The credential and the kind of a stream's request.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Anonymous,
    Key,
    PlainKey,
    WrongKey,
    Token,
    Session,
    WebSocketOfAnonymous,
    WebSocketWithKey,
    WebSocketWithSession,
    PreflightOfTrustedOrigin,
    PreflightOfOtherOrigin,
    PreflightWithKey,
}

impl Kind {
    const ALL: [Self; 12] = [
        Self::Anonymous,
        Self::Key,
        Self::PlainKey,
        Self::WrongKey,
        Self::Token,
        Self::Session,
        Self::WebSocketOfAnonymous,
        Self::WebSocketWithKey,
        Self::WebSocketWithSession,
        Self::PreflightOfTrustedOrigin,
        Self::PreflightOfOtherOrigin,
        Self::PreflightWithKey,
    ];

    fn request(self, port: u16) -> Headers {
        let plain = to(port, "shop");
        match self {
            Self::Anonymous => plain,
            Self::Key => bearer(plain, KEY),
            Self::PlainKey => bearer(plain, PLAIN_KEY),
            Self::WrongKey => bearer(plain, "tl_apiKey_nobodys"),
            Self::Token => in_project(bearer(plain, PAT)),
            Self::Session => with_session(plain),
            Self::WebSocketOfAnonymous => websocket(plain),
            Self::WebSocketWithKey => websocket(bearer(plain, KEY)),
            Self::WebSocketWithSession => {
                let origin = format!("https://{port}-shop.{DOMAIN}");
                websocket(with_session(plain)).with("origin", origin)
            }
            Self::PreflightOfTrustedOrigin => preflight(port, "https://app.example.com"),
            Self::PreflightOfOtherOrigin => preflight(port, "https://other.example"),
            Self::PreflightWithKey => bearer(preflight(port, "https://app.example.com"), KEY),
        }
    }
}

fn preflight(port: u16, origin: &str) -> Headers {
    Headers::request("OPTIONS", &format!("{port}-shop.{DOMAIN}"), "/")
        .with("origin", origin)
        .with("access-control-request-method", "PUT")
}

#[derive(Clone, Debug)]
enum Step {
    Open(Kind, u16),
    Public(bool),
    Exposed(u16, bool),
    Revoke(&'static str),
    Allow(&'static str),
    ExpireIn(&'static str, u64),
    Move,
    State(SandboxState),
    Project(bool),
    Feed(bool),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let secret = || select(vec![KEY, PLAIN_KEY, PAT, super::support::SESSION]);
    // Most requests go to one port, which is exposed most of the time, so that streams live through
    // several changes.
    let port = || select(vec![8080, 8080, 8080, 3000, 9501]);
    let state = select(vec![
        SandboxState::Running,
        SandboxState::Running,
        SandboxState::Suspended,
        SandboxState::Snapshotting,
        SandboxState::Terminated,
    ]);
    prop_oneof![
        12 => (select(Kind::ALL.to_vec()), port()).prop_map(|(kind, port)| Step::Open(kind, port)),
        8 => any::<bool>().prop_map(Step::Public),
        2 => (select(vec![8080, 3000]), any::<bool>()).prop_map(|(port, on)| Step::Exposed(port, on)),
        4 => secret().prop_map(Step::Revoke),
        4 => secret().prop_map(Step::Allow),
        3 => (secret(), 1..15_u64).prop_map(|(secret, seconds)| Step::ExpireIn(secret, seconds)),
        1 => Just(Step::Move),
        2 => state.prop_map(Step::State),
        1 => any::<bool>().prop_map(Step::Project),
        2 => any::<bool>().prop_map(Step::Feed),
        3 => (0..8_000_u64).prop_map(Step::Wait),
    ]
}

fn apply(gateway: &Gateway, step: &Step) {
    let now = gateway.host.unix_time();
    let mut fleet = gateway.fleet();
    match *step {
        Step::Open(..) => {}
        Step::Public(public) => {
            fleet.change(SHOP, |sandbox| sandbox.allow_unauthenticated_access = public);
        }
        Step::Exposed(port, exposed) => fleet.change(SHOP, |sandbox| {
            sandbox.exposed_ports.retain(|other| *other != port);
            sandbox.exposed_ports.extend(exposed.then_some(port));
        }),
        Step::Revoke(secret) if fleet.knows(secret) => fleet.revoke(secret),
        Step::Revoke(_) => {}
        Step::Allow(secret) => allow(&mut fleet, secret),
        Step::ExpireIn(secret, seconds) => {
            allow(&mut fleet, secret);
            fleet.expire(secret, now + seconds);
        }
        Step::Move => fleet.change(SHOP, move_elsewhere),
        Step::State(state) => fleet.change(SHOP, |sandbox| {
            // The sandbox starts again at another address.
            if state == SandboxState::Running && sandbox.state != state {
                move_elsewhere(sandbox);
            }
            sandbox.state = state;
        }),
        Step::Project(same) => fleet.change(SHOP, |sandbox| {
            sandbox.project_id = if same { "proj_1" } else { "proj_other" }.parse().unwrap();
        }),
        Step::Feed(works) => fleet.feed = works,
        Step::Wait(ms) => {
            drop(fleet);
            gateway.advance_ms(ms);
        }
    }
}

/// Makes a secret valid, without an expiry. A secret always belongs to the same principal.
fn allow(fleet: &mut Fleet, secret: &'static str) {
    let (kind, principal) = match secret {
        KEY => (CredentialKind::ApiKey, "key_1"),
        PLAIN_KEY => (CredentialKind::ApiKey, "key_2"),
        PAT => (CredentialKind::PersonalAccessToken, "user_alice"),
        _ => (CredentialKind::Session, "user_alice"),
    };
    if fleet.knows(secret) {
        fleet.revoke(secret);
    }
    fleet.allow(secret, kind, principal);
}

fn move_elsewhere(sandbox: &mut Sandbox) {
    sandbox.generation += 1;
    let last = u8::try_from(sandbox.generation % 200).expect("less than 256");
    sandbox.address = Some([127, 64, 1, last].into());
}

/// The permit that a new request would get now, by the decision function and the fleet's state.
fn permit(request: &Headers, fleet: &Fleet, now: u64) -> Option<Permit> {
    let config = IngressConfig::from_json(configuration().to_string().as_bytes()).expect("good");
    let pairs: Vec<(String, Vec<u8>)> = request
        .iter()
        .map(|(name, value)| (String::from_utf8_lossy(name).into_owned(), value.to_vec()))
        .collect();
    let Ok(Request::Sandbox(parsed)) =
        Request::parse(Head::new(&sandgate_policy::header::fields(&pairs)), &config)
    else {
        panic!("a request to a sandbox");
    };
    let mut sandbox = fleet.sandbox(SHOP).expect("the sandbox").clone();
    // A sandbox continues to run while its snapshot is taken.
    if sandbox.state == SandboxState::Snapshotting {
        sandbox.state = SandboxState::Running;
    }
    let identity =
        parsed.credential().and_then(|shown| fleet.identity(&shown.introspect_request()));
    let facts = RequestFacts {
        sandbox: &Resolved::Found(Arc::new(sandbox.into())),
        caller: &identity.map(Arc::new).into(),
        now,
        in_flight: InFlight::default(),
    };
    match decide(&parsed, &facts, &config) {
        Decision::Permit(permit) => Some(permit),
        _ => None,
    }
}

struct Live {
    stream: Stream,
    kind: Kind,
    request: Headers,
    route: Permit,
    /// The request was not permitted at some time while the feed was down. The filter may have noticed
    /// that or not.
    in_doubt: Cell<bool>,
}

impl Live {
    fn is_permitted(&self, fleet: &Fleet, now: u64) -> bool {
        permit(&self.request, fleet, now).is_some_and(|permit| permit.is_same_route(&self.route))
    }
}

fn open(gateway: &Gateway, kind: Kind, port: u16) -> Option<Live> {
    let request = kind.request(port);
    let stream = gateway.send(request.clone());
    if !matches!(stream.outcome(), Outcome::Forwarded(_)) {
        stream.abort();
        return None;
    }
    let route = permit(&request, &gateway.look(), gateway.host.unix_time());
    // Without the feed, the filter may have decided by an outdated cache entry.
    let Some(route) = route else {
        assert!(!gateway.look().feed, "{kind:?} was forwarded, but must not be");
        stream.abort();
        return None;
    };
    Some(Live { stream, kind, request, route, in_doubt: Cell::new(false) })
}

proptest! {
    #![proptest_config(cases(128))]

    #[test]
    fn a_live_stream_is_open_exactly_while_its_request_would_be_permitted(
        steps in proptest::collection::vec(step(), 20..60)
    ) {
        let gateway = Gateway::new();
        // The feed starts with the first request.
        gateway.passes(to(8080, "shop"));
        gateway.advance_ms(6_000);
        let mut live: Vec<Live> = Vec::new();
        for step in &steps {
            let was_lost = !gateway.look().feed;
            apply(&gateway, step);
            if let Step::Open(kind, port) = *step {
                live.extend(open(&gateway, kind, port));
            }
            // The filter retries the feed within four seconds.
            gateway.advance_ms(if was_lost { 6_000 } else { 2_500 });
            let (fleet, now) = (gateway.look(), gateway.host.unix_time());
            for one in &live {
                let (open, kind) = (one.stream.is_open(), one.kind);
                let is_permitted = one.is_permitted(&fleet, now);
                if !fleet.feed {
                    one.in_doubt.set(one.in_doubt.get() || !is_permitted);
                } else if open {
                    // The filter searches for expired credentials once a second.
                    let was_permitted = one.is_permitted(&fleet, now - 2);
                    prop_assert!(was_permitted, "{kind:?} is open after {step:?}, but must not be");
                    one.in_doubt.set(false);
                } else {
                    let must_be_open = is_permitted && !one.in_doubt.get();
                    prop_assert!(!must_be_open, "{kind:?} was closed by {step:?}, but must not be");
                }
            }
            live.retain(|one| one.stream.is_open());
        }
        prop_assert_eq!(gateway.host.metric("sandgate_ingress_host_errors_total"), 0);
    }
}
