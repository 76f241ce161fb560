//! The decision about a request: permits, and the code of each denial.

use std::net::{IpAddr, Ipv4Addr};

use sandgate_policy::gateway_api::{Sandbox, SandboxState};
use sandgate_policy::ingress::concurrency::InFlight;
use sandgate_policy::ingress::{Decision, Resolved, decide};
use test_case::test_case;

use crate::ingress::support::{
    APP, ID, KEY, MANAGEMENT, NOW, PAT, Req, World, config, id, in_flight, member, my_env, outcome,
    parsed,
};

const UNAUTHENTICATED: &str = "401 UNAUTHENTICATED";
const NOT_VALID: &str = "401 INVALID_CREDENTIALS";
const NOT_FOUND: &str = "404 SANDBOX_NOT_FOUND";
const NOT_EXPOSED: &str = "403 PORT_NOT_EXPOSED";
const NO_CONTEXT: &str = "400 PROJECT_CONTEXT_REQUIRED";
const REFUSED: &str = "400 INVALID_REQUEST";
const NOT_READY: &str = "503 SANDBOX_NOT_READY";
const NOT_RUNNING: &str = "503 SANDBOX_NOT_RUNNING";
const SANDBOX_UNKNOWN: &str = "503 SANDBOX_UPSTREAM_ERROR";
const AUTH_UNKNOWN: &str = "503 AUTH_SERVICE_UNAVAILABLE";
const PERMIT: &str = "permit 10.1.0.2:8080 for key_1";
const PERMIT_PUBLIC: &str = "permit 10.1.0.2:8080 for nobody";
const PERMIT_MANAGEMENT: &str = "permit 10.1.0.2:9501 for key_1";

/// A host of `my-env` whose port nobody exposed.
const CLOSED: &str = "4000-my-env.sandbox.example.com";

fn world() -> World {
    World::new()
}

fn sandbox(sandbox: Resolved<Sandbox>) -> World {
    World { sandbox, ..world() }
}

fn terminated() -> World {
    world().with(|sandbox| sandbox.state = SandboxState::Terminated)
}

fn caller_unknown() -> World {
    World { caller: Resolved::NotFound, ..world() }
}

fn all_unavailable() -> World {
    World { sandbox: Resolved::Unavailable, caller: Resolved::Unavailable, ..world() }
}

#[test_case(Req::get(APP).bearer(KEY), world() => PERMIT; "a key to an exposed port")]
#[test_case(Req::get(APP).bearer(PAT).context(), world() => PERMIT; "a token to an exposed port")]
#[test_case(Req::get(APP).session(), world() => PERMIT; "a session to an exposed port")]
#[test_case(Req::get(APP).and("x-sandgate-authorization", format!("Bearer {KEY}")).and("authorization", "Basic YTpi"), world() => PERMIT; "the gateway's header, next to the app's own credential")]
#[test_case(Req::get("8080-a1b2c3d4e5f6g7h8i9j0k.local").bearer(KEY), world() => PERMIT; "by id, under the other domain")]
#[test_case(Req::get(MANAGEMENT).bearer(KEY), world() => PERMIT_MANAGEMENT; "a key to the management port")]
#[test_case(Req::get("9501-my-env.local").bearer(KEY), world() => PERMIT_MANAGEMENT; "the management port spelt out")]
#[test_case(Req::get(MANAGEMENT).bearer(KEY), world().with(|s| s.exposed_ports.clear()) => PERMIT_MANAGEMENT; "the management port needs no exposure")]
#[test_case(Req::get(APP), world().public() => PERMIT_PUBLIC; "no credential on a public port")]
#[test_case(Req::new("POST", APP), world().public() => PERMIT_PUBLIC; "any method on a public port")]
#[test_case(Req::get(APP).bearer(KEY), world().with(|s| s.name = None) => PERMIT; "an ephemeral sandbox")]
fn permitted_requests_are_forwarded(request: Req, world: World) -> String {
    outcome(&request, &world)
}

#[test_case("nowhere.example.com" => "400 INVALID_HOST"; "another domain")]
#[test_case("65536-my-env.local" => "400 INVALID_HOST"; "a port above 65535")]
#[test_case("9501-.local" => "400 INVALID_HOST"; "the management port without a sandbox")]
#[test_case("a.local,b.local" => "400 INVALID_HOST"; "two hosts joined by a comma")]
#[test_case("" => "400 INVALID_HOST"; "an empty host")]
fn an_invalid_host_is_denied(authority: &str) -> String {
    outcome(&Req::get(authority).bearer(KEY), &world())
}

#[test_case("/caf\u{e9}"; "UTF-8 in the path")]
#[test_case("/?name=caf\u{e9}"; "UTF-8 in the query")]
fn a_path_that_is_not_a_uri_is_denied_on_every_host(path: &str) {
    for host in [APP, "local", "api.local"] {
        assert_eq!(outcome(&Req::get(host).bearer(KEY).path(path), &world().public()), REFUSED);
    }
}

#[test]
fn a_missing_or_repeated_host_is_refused() {
    let twice = Req::get(APP).and(":authority", APP).bearer(KEY);
    assert_eq!(outcome(&twice, &world()), REFUSED);
    assert_eq!(outcome(&twice, &world().public()), REFUSED);
    let headers = [(":method", &b"GET"[..])];
    let head = sandgate_policy::ingress::head::Head::new(&headers);
    assert!(sandgate_policy::ingress::Request::parse(head, &config()).is_err());
}

#[test_case(Req::get("sandbox.example.com") => "public API"; "a bare domain")]
#[test_case(Req::get("local:9443") => "public API"; "the other bare domain, with a port")]
#[test_case(Req::get("api.sandbox.example.com") => "public API"; "the API host")]
#[test_case(Req::get("api.local").and("x-tensorlake-sandbox-id", ID) => "public API"; "the sandbox header does not route on the API host")]
#[test_case(Req::get("local").bearer("a,b") => "public API"; "credentials are not evaluated on a bare domain")]
#[test_case(Req::get("local").and("x-tensorlake-sandbox-id", ID).bearer(KEY) => PERMIT_MANAGEMENT; "the sandbox header routes on a bare domain, to the management port")]
#[test_case(Req::get("local").and("x-tensorlake-sandbox-id", "my-env").bearer(KEY) => PERMIT_MANAGEMENT; "the sandbox header may have a name")]
#[test_case(Req::get("local").and("x-tensorlake-sandbox-id", ID) => UNAUTHENTICATED; "the sandbox header on a bare domain, without a credential")]
#[test_case(Req::get("local").and("x-tensorlake-sandbox-id", "8080-my-env").bearer(KEY) => REFUSED; "the sandbox header with a port")]
#[test_case(Req::get("local").and("x-tensorlake-sandbox-id", "").bearer(KEY) => REFUSED; "an empty sandbox header")]
#[test_case(Req::get("local").and("x-tensorlake-sandbox-id", ID).and("x-tensorlake-sandbox-id", ID).bearer(KEY) => REFUSED; "a repeated sandbox header")]
#[test_case(Req::get("local").and("x-tensorlake-sandbox-id", format!("{ID},{ID}")).bearer(KEY) => REFUSED; "a sandbox header with two ids, joined by a comma")]
#[test_case(Req::get("local").and("x-tensorlake-sandbox-id", b"\xff").bearer(KEY) => REFUSED; "a sandbox header that is not UTF-8")]
fn hosts_that_do_not_name_a_sandbox(request: Req) -> String {
    outcome(&request, &world())
}

const OTHER_ID: &str = "zzzzzzzzzzzzzzzzzzzzz";

#[test_case(Req::get(APP).bearer(KEY).and("x-tensorlake-sandbox-id", ID), world() => PERMIT; "the id of the sandbox in the host")]
#[test_case(Req::get(APP).bearer(KEY).and("x-tensorlake-sandbox-id", "my-env"), world() => PERMIT; "the name of the sandbox in the host")]
#[test_case(Req::get(MANAGEMENT).bearer(KEY).and("x-tensorlake-sandbox-id", ID), world() => PERMIT_MANAGEMENT; "the id of the sandbox in the management host, as the clients send it")]
#[test_case(Req::get(APP).bearer(KEY).and("x-tensorlake-sandbox-id", OTHER_ID), world() => REFUSED; "another sandbox")]
#[test_case(Req::get(APP).and("x-tensorlake-sandbox-id", OTHER_ID), world().public() => REFUSED; "another sandbox, on a public port")]
#[test_case(Req::get(APP).bearer(KEY).and("x-tensorlake-sandbox-id", "no id"), world() => REFUSED; "neither an id nor a name")]
#[test_case(Req::get(APP).bearer(KEY).and("x-tensorlake-sandbox-id", ID).and("x-tensorlake-sandbox-id", ID), world() => REFUSED; "a repeated header")]
#[test_case(Req::get(APP).and("x-tensorlake-sandbox-id", OTHER_ID), world() => UNAUTHENTICATED; "another sandbox, without a credential")]
#[test_case(Req::get(APP).bearer(KEY).and("x-tensorlake-sandbox-id", OTHER_ID), caller_unknown() => NOT_VALID; "another sandbox, with an unknown credential")]
#[test_case(Req::get(APP).bearer(KEY).and("x-tensorlake-sandbox-id", OTHER_ID), world().by(|c| c.project_ids.clear()) => NOT_FOUND; "another sandbox, by a caller of another project")]
#[test_case(Req::get(CLOSED).bearer(KEY).and("x-tensorlake-sandbox-id", OTHER_ID), world() => REFUSED; "another sandbox, and a port that is not exposed")]
fn the_sandbox_header_must_agree_with_the_host(request: Req, world: World) -> String {
    outcome(&request, &world)
}

#[test_case(APP, world() => UNAUTHENTICATED; "an exposed port")]
#[test_case(CLOSED, world() => UNAUTHENTICATED; "a closed port")]
#[test_case(CLOSED, world().public() => UNAUTHENTICATED; "a closed port next to public ones")]
#[test_case(APP, world().public().with(|s| { s.exposed_ports.clear(); s.allow_unauthenticated_access = true; }) => UNAUTHENTICATED; "the flag without the port")]
#[test_case(APP, sandbox(Resolved::NotFound) => UNAUTHENTICATED; "an unknown sandbox")]
#[test_case(APP, terminated() => UNAUTHENTICATED; "a terminated sandbox")]
#[test_case(APP, world().public().with(|s| { s.state = SandboxState::Terminated; s.allow_unauthenticated_access = true; }) => UNAUTHENTICATED; "a terminated sandbox that was public")]
#[test_case(APP, world().with(|s| s.state = SandboxState::Suspended) => UNAUTHENTICATED; "a suspended sandbox")]
#[test_case(APP, world().with(|s| s.state = SandboxState::Pending) => UNAUTHENTICATED; "a pending sandbox")]
#[test_case(APP, World { in_flight: in_flight(4, 4, 4), ..world() } => UNAUTHENTICATED; "a busy sandbox")]
#[test_case(APP, world().with(|s| s.address = None) => UNAUTHENTICATED; "a sandbox without an address")]
#[test_case(MANAGEMENT, world() => UNAUTHENTICATED; "the management port")]
#[test_case(MANAGEMENT, world().public() => UNAUTHENTICATED; "the management port of a public sandbox")]
#[test_case("9501-my-env.local", world().public() => UNAUTHENTICATED; "the management port of a public sandbox spelt out")]
#[test_case("9501-my-env.local", world().with(|s| { s.allow_unauthenticated_access = true; s.exposed_ports = vec![9501]; }) => UNAUTHENTICATED; "the management port, were it ever listed as exposed")]
#[test_case(MANAGEMENT, sandbox(Resolved::NotFound) => UNAUTHENTICATED; "the management port of an unknown sandbox")]
#[test_case(MANAGEMENT, all_unavailable() => UNAUTHENTICATED; "the management port while nothing can be asked")]
fn without_a_credential_all_ports_that_are_not_public_look_the_same(
    host: &str,
    world: World,
) -> String {
    let answers = ["GET", "POST", "HEAD"].map(|method| outcome(&Req::new(method, host), &world));
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    answers[0].clone()
}

#[test_case(APP, world() => NOT_VALID; "an exposed port")]
#[test_case(CLOSED, world() => NOT_VALID; "a closed port")]
#[test_case(APP, sandbox(Resolved::NotFound) => NOT_VALID; "an unknown sandbox")]
#[test_case(APP, terminated() => NOT_VALID; "a terminated sandbox")]
#[test_case(MANAGEMENT, world() => NOT_VALID; "the management port")]
#[test_case(MANAGEMENT, sandbox(Resolved::NotFound) => NOT_VALID; "the management port of an unknown sandbox")]
#[test_case(MANAGEMENT, sandbox(Resolved::Unavailable) => NOT_VALID; "the management port of a sandbox that can't be asked for")]
fn an_invalid_credential_does_not_reveal_whether_a_sandbox_exists(
    host: &str,
    world: World,
) -> String {
    let unknown = outcome(
        &Req::get(host).bearer(KEY),
        &World { caller: Resolved::NotFound, ..world.clone() },
    );
    let expired = world.clone().by(|caller| caller.expires_at = Some(NOW - 1));
    assert_eq!(outcome(&Req::get(host).bearer(KEY), &expired), unknown, "expired");
    let malformed = Req::get(host).bearer("tl_mal formed");
    assert_eq!(outcome(&malformed, &world), unknown, "malformed");
    unknown
}

#[test_case(APP, world() => NO_CONTEXT; "an exposed port")]
#[test_case(APP, sandbox(Resolved::NotFound) => NO_CONTEXT; "an unknown sandbox")]
#[test_case(MANAGEMENT, world() => NO_CONTEXT; "the management port")]
#[test_case(MANAGEMENT, sandbox(Resolved::NotFound) => NO_CONTEXT; "the management port of an unknown sandbox")]
fn a_token_or_session_without_context_does_not_reveal_whether_a_sandbox_exists(
    host: &str,
    world: World,
) -> String {
    let token = outcome(&Req::get(host).bearer(PAT), &world);
    let session = outcome(&Req::get(host).and("cookie", "tl-session=s"), &world);
    assert_eq!(token, session);
    token
}

#[test_case(APP, sandbox(Resolved::NotFound) => NOT_FOUND; "an unknown sandbox")]
#[test_case(MANAGEMENT, sandbox(Resolved::NotFound) => NOT_FOUND; "the management port of an unknown sandbox")]
#[test_case(APP, terminated() => NOT_FOUND; "a terminated sandbox")]
#[test_case(MANAGEMENT, terminated() => NOT_FOUND; "the management port of a terminated sandbox")]
#[test_case(CLOSED, terminated() => NOT_FOUND; "a closed port of a terminated sandbox")]
#[test_case(APP, world().by(|c| c.project_ids = vec![id("proj_2")]) => NOT_FOUND; "a sandbox of another project")]
#[test_case(APP, world().by(|c| c.project_ids.clear()) => NOT_FOUND; "a caller without projects")]
#[test_case(APP, world().by(|c| c.organization_id = id("org_2")) => NOT_FOUND; "a sandbox of another organization, whose project has the same id")]
#[test_case(CLOSED, world().by(|c| c.project_ids.clear()) => NOT_FOUND; "a closed port of a sandbox of another project")]
#[test_case(MANAGEMENT, world().by(|c| c.project_ids.clear()) => NOT_FOUND; "the management port of a sandbox of another project")]
#[test_case(APP, World { in_flight: in_flight(4, 4, 4), ..world().by(|c| c.project_ids.clear()) } => NOT_FOUND; "a sandbox of another project whose slots are all taken")]
#[test_case(APP, World { sandbox: Resolved::Found(Sandbox { state: SandboxState::Suspended, ..my_env() }), ..world().by(|c| c.project_ids.clear()) } => NOT_FOUND; "a suspended sandbox of another project, which is not resumed")]
#[test_case(APP, World { sandbox: Resolved::Found(Sandbox { state: SandboxState::Pending, ..my_env() }), ..world().by(|c| c.project_ids.clear()) } => NOT_FOUND; "a pending sandbox of another project")]
fn the_sandbox_of_another_project_is_not_found(host: &str, world: World) -> String {
    outcome(&Req::get(host).bearer(KEY), &world)
}

#[test_case(CLOSED, world() => NOT_EXPOSED; "a port that is not in the list")]
#[test_case(APP, world().with(|s| s.exposed_ports.clear()) => NOT_EXPOSED; "an empty list")]
#[test_case(CLOSED, world().public() => NOT_EXPOSED; "a closed port of a public sandbox")]
#[test_case(CLOSED, world().with(|s| s.state = SandboxState::Suspended) => NOT_EXPOSED; "a closed port of a suspended sandbox, which is not resumed")]
#[test_case(CLOSED, World { in_flight: in_flight(4, 4, 4), ..world() } => NOT_EXPOSED; "a closed port of a sandbox whose slots are all taken")]
fn a_port_must_be_exposed(host: &str, world: World) -> String {
    outcome(&Req::get(host).bearer(KEY), &world)
}

#[test_case(Req::get(APP).bearer("a").bearer("b"), world() => REFUSED; "two credentials")]
#[test_case(Req::get(APP).bearer("a").bearer("b"), sandbox(Resolved::NotFound) => REFUSED; "two credentials for an unknown sandbox")]
#[test_case(Req::get(APP).bearer("a").bearer("b"), world().public() => PERMIT_PUBLIC; "two credentials on a public port")]
#[test_case(Req::get(APP).bearer(PAT), world().public() => PERMIT_PUBLIC; "a token without context on a public port")]
#[test_case(Req::get(APP).bearer("tl_mal formed"), world().public() => PERMIT_PUBLIC; "a malformed credential on a public port")]
#[test_case(Req::get(APP).bearer(KEY), World { caller: Resolved::NotFound, ..world().public() } => PERMIT_PUBLIC; "an unknown credential on a public port")]
#[test_case(Req::get(APP).bearer(KEY), World { caller: Resolved::Unavailable, ..world().public() } => PERMIT_PUBLIC; "a credential on a public port while the control plane is unavailable")]
#[test_case(Req::get(APP).bearer(KEY), World { caller: Resolved::Found(sandgate_policy::gateway_api::Identity { project_ids: Vec::new(), ..member() }), ..world().public() } => PERMIT_PUBLIC; "a credential of another project on a public port")]
fn a_public_port_ignores_credentials(request: Req, world: World) -> String {
    outcome(&request, &world)
}

#[test_case(None => PERMIT; "a credential without an expiry")]
#[test_case(Some(NOW + 1) => PERMIT; "one second before the expiry")]
#[test_case(Some(NOW) => NOT_VALID; "at the expiry")]
#[test_case(Some(NOW - 1) => NOT_VALID; "one second after the expiry")]
#[test_case(Some(0) => NOT_VALID; "long after the expiry")]
fn a_credential_is_not_valid_from_its_expiry(expires_at: Option<u64>) -> String {
    outcome(&Req::get(APP).bearer(KEY), &world().by(|caller| caller.expires_at = expires_at))
}

fn suspended(change: impl FnOnce(&mut Sandbox)) -> World {
    world().with(|sandbox| {
        sandbox.state = SandboxState::Suspended;
        sandbox.address = None;
        change(sandbox);
    })
}

const RESUME: &str = "resume for the caller";

#[test_case(Req::get(APP).bearer(KEY), suspended(|_| ()) => RESUME; "an exposed port")]
#[test_case(Req::get(MANAGEMENT).bearer(KEY), suspended(|_| ()) => RESUME; "the management port")]
#[test_case(Req::get("8080-a1b2c3d4e5f6g7h8i9j0k.local").bearer(KEY), suspended(|_| ()) => RESUME; "a named sandbox by its id")]
#[test_case(Req::get(APP).bearer(KEY), suspended(|s| s.state = SandboxState::Suspending) => RESUME; "a sandbox that is being suspended")]
#[test_case(Req::get(APP), suspended(|s| s.allow_unauthenticated_access = true) => "resume for nobody"; "a public port")]
#[test_case(Req::get(APP).bearer(KEY), suspended(|s| s.allow_unauthenticated_access = true) => "resume for nobody"; "a public port, with a credential that is not evaluated")]
#[test_case(Req::get(MANAGEMENT).bearer(KEY), suspended(|s| s.allow_unauthenticated_access = true) => RESUME; "the management port of a public sandbox")]
#[test_case(Req::get(APP).bearer(KEY), suspended(|s| s.auto_resume = false) => NOT_RUNNING; "a sandbox without auto_resume")]
#[test_case(Req::get(APP).bearer(KEY), suspended(|s| s.name = None) => NOT_RUNNING; "an ephemeral sandbox")]
#[test_case(Req::get(APP), suspended(|s| { s.allow_unauthenticated_access = true; s.auto_resume = false; }) => NOT_RUNNING; "a public port of a sandbox without auto_resume")]
#[test_case(Req::get(APP), suspended(|_| ()) => UNAUTHENTICATED; "no credential")]
#[test_case(Req::get(CLOSED).bearer(KEY), suspended(|_| ()) => NOT_EXPOSED; "a closed port")]
#[test_case(Req::get(CLOSED), suspended(|s| s.allow_unauthenticated_access = true) => UNAUTHENTICATED; "a closed port of a public sandbox")]
#[test_case(Req::new("POST", APP).session().and("origin", "https://evil.com"), suspended(|_| ()) => "403 CROSS_ORIGIN"; "a request of another site")]
#[test_case(Req::get(APP).bearer(KEY), world().with(|s| s.state = SandboxState::Pending) => NOT_READY; "a pending sandbox")]
#[test_case(Req::get(APP).bearer(KEY), world().with(|s| s.state = SandboxState::Snapshotting) => NOT_READY; "a sandbox during a snapshot")]
#[test_case(Req::get(APP), world().with(|s| { s.allow_unauthenticated_access = true; s.state = SandboxState::Pending; }) => NOT_READY; "a public port of a pending sandbox")]
fn a_suspended_named_sandbox_is_resumed_for_permitted_requests(
    request: Req,
    world: World,
) -> String {
    outcome(&request, &world)
}

const FULL: &str = "429 TOO_MANY_REQUESTS";

/// Of four slots, authenticated and anonymous requests have three together, anonymous ones two.
#[test_case(APP, in_flight(0, 0, 0) => PERMIT; "none in flight")]
#[test_case(APP, in_flight(0, 2, 0) => PERMIT; "one less than the share of exposed ports")]
#[test_case(APP, in_flight(0, 3, 0) => FULL; "the share of exposed ports")]
#[test_case(APP, in_flight(0, 9, 9) => FULL; "more than the share of exposed ports")]
#[test_case(APP, in_flight(3, 0, 0) => PERMIT; "one less than all, of management")]
#[test_case(APP, in_flight(4, 0, 0) => FULL; "all, of management")]
#[test_case(APP, in_flight(0, 0, 2) => PERMIT; "all that anonymous requests may take")]
#[test_case(APP, in_flight(0, 1, 2) => FULL; "both kinds together fill the share of exposed ports")]
#[test_case(MANAGEMENT, in_flight(0, 3, 0) => PERMIT_MANAGEMENT; "authenticated requests leave one for management")]
#[test_case(MANAGEMENT, in_flight(0, 1, 2) => PERMIT_MANAGEMENT; "authenticated and anonymous requests together leave one for management")]
#[test_case(MANAGEMENT, in_flight(1, 1, 2) => FULL; "all slots are taken")]
#[test_case(MANAGEMENT, in_flight(4, 0, 0) => FULL; "all slots are taken by management")]
fn requests_in_flight_are_limited(host: &str, in_flight: InFlight) -> String {
    outcome(&Req::get(host).bearer(KEY), &World { in_flight, ..world() })
}

const EVICT: &str = "evict for a1b2c3d4e5f6g7h8i9j0k";

#[test_case(in_flight(0, 0, 1) => "permit 10.1.0.2:8080 for nobody"; "one less than the share of anonymous requests")]
#[test_case(in_flight(0, 0, 2) => EVICT; "the share of anonymous requests")]
#[test_case(in_flight(0, 3, 0) => EVICT; "authenticated requests take all slots of exposed ports")]
#[test_case(in_flight(4, 0, 0) => EVICT; "management takes all slots")]
fn an_anonymous_request_beyond_its_share_must_evict_another(in_flight: InFlight) -> String {
    outcome(&Req::get(APP).bearer(KEY), &World { in_flight, ..world().public() })
}

#[test_case("10.1.255.255" => "permit 10.1.255.255:8080 for key_1"; "the last address of the range")]
#[test_case("fd00:1::5" => "permit [fd00:1::5]:8080 for key_1"; "the range of IPv6")]
#[test_case("10.2.0.0" => SANDBOX_UNKNOWN; "the address behind the range")]
#[test_case("10.0.255.255" => SANDBOX_UNKNOWN; "the address before the range")]
#[test_case("127.0.0.1" => SANDBOX_UNKNOWN; "loopback")]
#[test_case("169.254.169.254" => SANDBOX_UNKNOWN; "the metadata service")]
#[test_case("0.0.0.0" => SANDBOX_UNKNOWN; "the unspecified address")]
#[test_case("::1" => SANDBOX_UNKNOWN; "loopback of IPv6")]
fn only_sandbox_addresses_are_forwarded_to(address: &str) -> String {
    let address: IpAddr = address.parse().expect("an address");
    outcome(&Req::get(APP).bearer(KEY), &world().with(|sandbox| sandbox.address = Some(address)))
}

#[test]
fn an_ipv4_mapped_address_does_not_bypass_the_ranges() {
    for inside in [Ipv4Addr::new(10, 1, 0, 2), Ipv4Addr::LOCALHOST] {
        let address = IpAddr::V6(inside.to_ipv6_mapped());
        let world = world().with(|sandbox| sandbox.address = Some(address));
        assert_eq!(outcome(&Req::get(APP).bearer(KEY), &world), SANDBOX_UNKNOWN, "{address}");
    }
}

#[test]
fn a_running_sandbox_without_an_address_is_not_ready() {
    let world = world().with(|sandbox| sandbox.address = None);
    assert_eq!(outcome(&Req::get(APP).bearer(KEY), &world), NOT_READY);
}

#[test_case(Req::get(APP).bearer(KEY), sandbox(Resolved::Unavailable) => SANDBOX_UNKNOWN; "the sandbox is not known")]
#[test_case(Req::get(APP), sandbox(Resolved::Unavailable) => SANDBOX_UNKNOWN; "the sandbox is not known, without a credential")]
#[test_case(Req::get(APP).bearer("a").bearer("b"), sandbox(Resolved::Unavailable) => SANDBOX_UNKNOWN; "the sandbox is not known, with two credentials")]
#[test_case(Req::get(MANAGEMENT).bearer(KEY), sandbox(Resolved::Unavailable) => SANDBOX_UNKNOWN; "the sandbox is not known, on the management port")]
#[test_case(Req::get(APP).bearer(KEY), World { caller: Resolved::Unavailable, ..world() } => AUTH_UNKNOWN; "the caller is not known")]
#[test_case(Req::get(CLOSED).bearer(KEY), World { caller: Resolved::Unavailable, ..world() } => AUTH_UNKNOWN; "the caller is not known, on a closed port")]
#[test_case(Req::get(APP).bearer(KEY), World { caller: Resolved::Unavailable, ..sandbox(Resolved::NotFound) } => AUTH_UNKNOWN; "the caller is not known, and the sandbox does not exist")]
#[test_case(Req::get(MANAGEMENT).bearer(KEY), all_unavailable() => AUTH_UNKNOWN; "neither is known, on the management port")]
#[test_case(Req::get(APP).bearer(KEY), all_unavailable() => SANDBOX_UNKNOWN; "neither is known, on a user port")]
fn nothing_is_forwarded_while_the_control_plane_is_unavailable(req: Req, world: World) -> String {
    outcome(&req, &world)
}

#[test]
fn a_permit_has_the_upstream_and_the_caller() {
    let world = world().by(|caller| caller.expires_at = Some(NOW + 60));
    let parsed = parsed(&Req::get(APP).bearer(KEY)).expect("a sandbox's host");
    let Decision::Permit(permit) = decide(&parsed, &world.cached().facts(), &config()) else {
        panic!("a permit was expected");
    };
    assert_eq!(permit.sandbox_id().as_str(), ID);
    assert_eq!(permit.connection_group(), format!("{ID}:7"));
    let caller = permit.caller().expect("somebody authenticated");
    assert_eq!(caller.principal.as_str(), "key_1");
    assert_eq!(caller.organization_id.as_str(), "org_1");
    assert_eq!(caller.project_id.as_str(), "proj_1", "the sandbox's, of the caller's several");
    assert_eq!(caller.expires_at, Some(NOW + 60));
}

/// Whether a decision needs the lookups of the sandbox and of the caller, before the result of any.
fn needed_lookups(request: &Req) -> (bool, bool) {
    let parsed = parsed(request).expect("a sandbox's host");
    (parsed.needs_sandbox(), parsed.needs_caller(None))
}

#[test_case(Req::get(APP) => (true, false); "no credential on a user port, which may be public")]
#[test_case(Req::get(APP).bearer(KEY) => (true, true); "a platform secret needs both lookups")]
#[test_case(Req::get(APP).session() => (true, true); "a session needs both lookups")]
#[test_case(Req::get(APP).bearer("sk-app") => (true, false); "a bearer token without a prefix, which may be a secret of the app")]
#[test_case(Req::get(APP).and("x-sandgate-authorization", "Bearer x") => (true, true); "a credential in the gateway's own header")]
#[test_case(Req::get(APP).bearer("a").bearer("b") => (true, false); "two credentials on a user port")]
#[test_case(Req::get(MANAGEMENT) => (false, false); "no credential on the management port needs no lookup")]
#[test_case(Req::get(MANAGEMENT).bearer(PAT) => (false, false); "a token without context on the management port needs no lookup")]
#[test_case(Req::get(MANAGEMENT).bearer(KEY) => (true, true); "a key on the management port needs both lookups")]
#[test_case(Req::get(MANAGEMENT).bearer("key") => (true, true); "a bearer token without a prefix on the management port needs both lookups")]
fn the_lookups_that_a_decision_needs(request: Req) -> (bool, bool) {
    needed_lookups(&request)
}

#[test_case(world() => true; "a private port")]
#[test_case(world().public() => false; "a public port")]
#[test_case(sandbox(Resolved::NotFound) => true; "an unknown sandbox, like a private port")]
#[test_case(terminated() => true; "a terminated sandbox, like a private port")]
#[test_case(sandbox(Resolved::Unavailable) => false; "the sandbox is not known, so the port may be public")]
fn a_bearer_token_without_a_prefix_is_looked_up_only_if_the_port_is_not_public(
    world: World,
) -> bool {
    let parsed = parsed(&Req::get(APP).bearer("sk-app")).expect("a sandbox's host");
    parsed.needs_caller(Some(&world.cached().sandbox))
}
