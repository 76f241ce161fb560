//! What becomes of a live stream, row by row.

use sandgate_policy::gateway_api::SandboxState;
use sandgate_policy::ingress::{
    CloseReason, Decision, Lookup, Permit, StreamDecision, decide, reevaluate,
};
use test_case::test_case;

use crate::ingress::support::{APP, KEY, NOW, Req, World, config, in_flight, parsed};

/// The permit of the request in the world as it was, and its standing in the world as it is.
fn standing(request: &Req, was: &World, is: &World) -> String {
    let parsed = parsed(request).expect("a sandbox's host");
    let Decision::Permit(permit) = decide(&parsed, &was.facts(), &config()) else {
        panic!("it was not permitted");
    };
    match reevaluate(&parsed, &permit, &is.facts(), &config()) {
        StreamDecision::Continue(permit) => format!("rests on {}", principal(&permit)),
        StreamDecision::Close(CloseReason::Moved) => "moved".into(),
        StreamDecision::Close(CloseReason::NotRunning) => "not running".into(),
        StreamDecision::Close(CloseReason::NotPermitted) => "not permitted".into(),
        StreamDecision::Undecided => "unknown".into(),
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

#[test_case(keyed(), private(), private() => "rests on key_1"; "nothing changed")]
#[test_case(keyed(), public(), private() => "rests on key_1"; "a port that turned private is for callers")]
#[test_case(keyed(), private(), public() => "rests on nobody"; "a port that turned public is for everybody")]
#[test_case(keyed(), public(), World { caller: Lookup::NotFound, ..private() } => "not permitted"; "a bad key on a port that turned private")]
#[test_case(Req::get(APP), public(), private() => "not permitted"; "nobody on a port that turned private")]
#[test_case(keyed(), private(), private().by(|c| c.expires_at = Some(NOW)) => "not permitted"; "a key that expired")]
#[test_case(preflight("https://app.example.com"), public(), private() => "not permitted"; "a preflight of a trusted origin")]
#[test_case(preflight("https://app.example.com"), public(), World { sandbox: Lookup::NotFound, ..private() } => "not permitted"; "a preflight to a sandbox that is gone")]
#[test_case(preflight("https://other.example"), public(), private() => "not permitted"; "a preflight of another origin")]
#[test_case(keyed(), private(), private().with(|s| s.generation = 8) => "moved"; "another generation")]
#[test_case(keyed(), private(), private().with(|s| s.address = Some([10, 1, 0, 3].into())) => "moved"; "another address")]
#[test_case(keyed(), private(), private().with(|s| s.address = Some([127, 0, 0, 1].into())) => "not permitted"; "an address outside of the sandboxes' network")]
#[test_case(keyed(), private(), private().with(|s| s.state = SandboxState::Suspended) => "not running"; "suspended")]
#[test_case(keyed(), private(), private().with(|s| s.state = SandboxState::Pending) => "not permitted"; "started again")]
#[test_case(keyed(), private(), private().with(|s| s.state = SandboxState::Snapshotting) => "rests on key_1"; "a snapshot is taken")]
#[test_case(keyed(), private(), private().with(|s| { s.state = SandboxState::Snapshotting; s.generation = 8; }) => "moved"; "a snapshot is taken elsewhere")]
#[test_case(keyed(), private(), World { sandbox: Lookup::Unavailable, ..private() } => "unknown"; "the sandbox can't be asked for")]
#[test_case(keyed(), public(), World { caller: Lookup::Unavailable, ..private() } => "unknown"; "the caller can't be asked for")]
#[test_case(keyed(), expiring(), World { caller: Lookup::Unavailable, now: NOW + 60, ..private() } => "not permitted"; "a caller that can't be asked for, whose key has expired")]
#[test_case(keyed(), expiring(), World { caller: Lookup::Unavailable, now: NOW + 59, ..private() } => "unknown"; "a caller that can't be asked for, whose key is about to expire")]
#[test_case(keyed(), private(), World { in_flight: in_flight(9, 9, 9), ..private() } => "rests on key_1"; "a busy sandbox")]
fn what_becomes_of_a_live_stream(request: Req, was: World, is: World) -> String {
    standing(&request, &was, &is)
}
