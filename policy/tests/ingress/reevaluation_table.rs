//! The decision about a live stream whose facts have changed.

use sandgate_policy::gateway_api::SandboxState;
use sandgate_policy::ingress::{
    CloseReason, Decision, Permit, Resolved, StreamDecision, decide, reevaluate,
};
use test_case::test_case;

use crate::ingress::support::{APP, KEY, NOW, Req, World, config, in_flight, parsed};

/// Permits the request in the world `was`, and reevaluates it in the world `is`.
fn outcome(request: &Req, was: &World, is: &World) -> String {
    let parsed = parsed(request).expect("a sandbox's host");
    let Decision::Permit(permit) = decide(&parsed, &was.cached().facts(), &config()) else {
        panic!("it was not permitted");
    };
    match reevaluate(&parsed, &permit, &is.cached().facts(), &config()) {
        StreamDecision::Continue(permit) => format!("continues for {}", principal(&permit)),
        StreamDecision::Close(CloseReason::Moved) => "moved".into(),
        StreamDecision::Close(CloseReason::NotRunning) => "not running".into(),
        StreamDecision::Close(CloseReason::NotPermitted) => "not permitted".into(),
        StreamDecision::Undecided => "undecided".into(),
    }
}

fn principal(permit: &Permit) -> &str {
    permit.caller().map_or("nobody", |caller| caller.principal.as_str())
}

fn private() -> World {
    World::new()
}

fn public() -> World {
    World::new().public()
}

fn expiring() -> World {
    private().by(|caller| caller.expires_at = Some(NOW + 60))
}

fn keyed() -> Req {
    Req::get(APP).bearer(KEY)
}

fn preflight(origin: &str) -> Req {
    Req::new("OPTIONS", APP).and("origin", origin).and("access-control-request-method", "PUT")
}

#[test_case(keyed(), private(), private() => "continues for key_1"; "nothing changed")]
#[test_case(keyed(), public(), private() => "continues for key_1"; "a port that turned private continues for its caller")]
#[test_case(keyed(), private(), public() => "continues for nobody"; "a port that turned public continues without a caller")]
#[test_case(keyed(), public(), World { caller: Resolved::NotFound, ..private() } => "not permitted"; "a bad key on a port that turned private")]
#[test_case(Req::get(APP), public(), private() => "not permitted"; "no credential on a port that turned private")]
#[test_case(keyed(), private(), private().by(|c| c.expires_at = Some(NOW)) => "not permitted"; "a key that expired")]
#[test_case(preflight("https://app.example.com"), public(), private() => "not permitted"; "a preflight of a trusted origin")]
#[test_case(preflight("https://app.example.com"), public(), World { sandbox: Resolved::NotFound, ..private() } => "not permitted"; "a preflight to a sandbox that is gone")]
#[test_case(preflight("https://other.example"), public(), private() => "not permitted"; "a preflight of another origin")]
#[test_case(keyed(), private(), private().with(|s| s.generation = 8) => "moved"; "another generation")]
#[test_case(keyed(), private(), private().with(|s| s.address = Some([10, 1, 0, 3].into())) => "moved"; "another address")]
#[test_case(keyed(), private(), private().with(|s| s.address = Some([127, 0, 0, 1].into())) => "not permitted"; "an address outside of the sandboxes' network")]
#[test_case(keyed(), private(), private().with(|s| s.state = SandboxState::Suspended) => "not running"; "suspended")]
#[test_case(keyed(), private(), private().with(|s| s.state = SandboxState::Pending) => "not permitted"; "started again")]
#[test_case(keyed(), private(), private().with(|s| s.state = SandboxState::Snapshotting) => "continues for key_1"; "a snapshot is taken")]
#[test_case(keyed(), private(), private().with(|s| { s.state = SandboxState::Snapshotting; s.generation = 8; }) => "moved"; "a snapshot is taken elsewhere")]
#[test_case(keyed(), private(), World { sandbox: Resolved::Unavailable, ..private() } => "undecided"; "the sandbox can't be looked up")]
#[test_case(keyed(), public(), World { caller: Resolved::Unavailable, ..private() } => "undecided"; "the caller can't be looked up")]
#[test_case(keyed(), expiring(), World { caller: Resolved::Unavailable, now: NOW + 60, ..private() } => "not permitted"; "a caller that can't be looked up, whose key has expired")]
#[test_case(keyed(), expiring(), World { caller: Resolved::Unavailable, now: NOW + 59, ..private() } => "undecided"; "a caller that can't be looked up, whose key is about to expire")]
#[test_case(keyed(), private(), World { in_flight: in_flight(9, 9, 9), ..private() } => "continues for key_1"; "a busy sandbox")]
fn the_decision_about_a_live_stream(request: Req, was: World, is: World) -> String {
    outcome(&request, &was, &is)
}
