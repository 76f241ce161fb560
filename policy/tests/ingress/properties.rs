//! Properties that hold for any input: arbitrary bytes, heads composed of dangerous parts, and arbitrary facts.

mod cache_model;
mod clean;
mod generators;

use std::collections::BTreeSet;
use std::net::IpAddr;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use sandgate_policy::gateway_api::SandboxState;
use sandgate_policy::header;
use sandgate_policy::ids::SandboxRef;
use sandgate_policy::ingress::authority::HostName;
use sandgate_policy::ingress::concurrency::InFlight;
use sandgate_policy::ingress::config::IngressConfig;
use sandgate_policy::ingress::credential::Credential;
use sandgate_policy::ingress::denial::Denial;
use sandgate_policy::ingress::domain::Domain;
use sandgate_policy::ingress::head::Head;
use sandgate_policy::ingress::host::Target;
use sandgate_policy::ingress::hygiene::{clean_api_request, clean_request, clean_response};
use sandgate_policy::ingress::port::Port;
use sandgate_policy::ingress::project_context::ProjectContext;
use sandgate_policy::ingress::{Decision, Request, Resolved, decide};

use self::generators::{hosts, requests, set_cookies, worlds};
use crate::ingress::hygiene_table::apply;
use crate::ingress::oracle;
use crate::ingress::support::{self, ID, Req, World, authority, config, outcome};

/// Bounded, so that all of them take seconds; `PROPTEST_CASES` sets another number. A case that failed once becomes a row
/// of a table.
fn cases(cases: u32) -> ProptestConfig {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    match std::env::var_os("PROPTEST_CASES") {
        // The default has read it.
        Some(_) => config,
        None => ProptestConfig { cases, ..config },
    }
}

fn domains() -> Vec<Domain> {
    config().domains().to_vec()
}

/// The one spelling of a sandbox's host.
fn canonical(sandbox: &SandboxRef, port: Port) -> String {
    match port {
        Port::Management => format!("{}.local", sandbox.as_str()),
        Port::User(port) => format!("{}-{}.local", port.get(), sandbox.as_str()),
    }
}

proptest! {
    #![proptest_config(cases(4_000))]

    #[test]
    fn an_accepted_host_has_the_only_meaning_of_the_grammar(host in hosts()) {
        let parsed = support::host(&host, &domains());
        let expected = oracle::target(&host);
        match parsed {
            Ok(Target::Sandbox(sandbox, port)) => {
                prop_assert_eq!(expected, Some((sandbox.as_str().to_owned(), port.get())));
            }
            Ok(Target::Bare | Target::Api) | Err(_) => prop_assert_eq!(expected, None),
        }
    }

    #[test]
    fn the_canonical_form_of_an_accepted_host_means_the_same(host in hosts()) {
        if let Ok(Target::Sandbox(sandbox, port)) = support::host(&host, &domains()) {
            let again = support::host(canonical(&sandbox, port).as_bytes(), &domains());
            prop_assert_eq!(again, Ok(Target::Sandbox(sandbox, port)));
        }
    }

    #[test]
    fn every_sandbox_and_port_has_a_host_that_names_it(
        sandbox in "[a-z0-9]{21}|[a-z]([a-z0-9-]{0,55}[a-z0-9])?",
        number in 1_u16..,
    ) {
        let sandbox = SandboxRef::parse(&sandbox).expect("an id or a name");
        let port = Port::new(number).expect("not 0");
        let host = canonical(&sandbox, port);
        for spelling in [host.clone(), host.to_uppercase(), format!("{host}.:443")] {
            let parsed = support::host(spelling.as_bytes(), &domains());
            prop_assert_eq!(parsed, Ok(Target::Sandbox(sandbox.clone(), port)));
        }
    }

    #[test]
    fn no_bytes_make_a_parser_panic(bytes in vec(any::<u8>(), 0..200)) {
        let authority = HostName::parse(&bytes);
        let _ = authority.as_ref().map(|authority| Target::parse(authority, &domains()));
        let _ = IngressConfig::from_json(&bytes);
        let text = String::from_utf8_lossy(&bytes);
        let _ = Domain::parse(&text).map(|domain| domain.covers(&text));
        let _ = SandboxRef::parse(&text);
        let names = ["authorization", "cookie", "content-type", "accept", "origin", ":path"];
        let mut request = Req::new("CONNECT", "my-env.local").and(":protocol", "websocket");
        for name in names {
            request = request.and(name, &bytes);
        }
        let fields = request.fields();
        let head = Head::new(&fields);
        let _ = (head.is_grpc(), head.is_navigation(), head.is_websocket(), head.is_upgrade());
        let _ = Credential::extract(head, &config());
        let _ = ProjectContext::extract(head);
        let _ = Request::parse(head, &config());
        let set_cookie = [("set-cookie".to_owned(), bytes.clone())];
        let _ = authority.map(|authority| clean_response(Head::new(&header::fields(&set_cookie)), &authority));
    }
}

proptest! {
    #![proptest_config(cases(20_000))]

    #[test]
    fn every_permit_agrees_with_the_reference_rules(request in requests(), world in worlds()) {
        let config = config();
        let Ok(Request::Sandbox(parsed)) = Request::parse(Head::new(&request.fields()), &config) else {
            return Ok(());
        };
        let decision = decide(&parsed, &world.cached().facts(), &config);
        if let Decision::Permit(permit) = decision {
            let upstream = permit.upstream();
            prop_assert!(oracle::may_pass(&request, &world, upstream.port()), "{permit:?}");
            let inside = match upstream.ip() {
                IpAddr::V4(ip) => ip.octets().starts_with(&[10, 1]),
                IpAddr::V6(ip) => ip.segments().starts_with(&[0xfd00, 1]),
            };
            prop_assert!(inside, "{upstream} is no sandbox's address");
            prop_assert!(permit.caller().is_some() || upstream.port() != 9501, "9501 is never public");
            prop_assert_eq!(permit.sandbox_id().as_str(), ID);
        } else if let Decision::Resume(permit) = decision {
            // A request that may resume the sandbox is permitted once the sandbox runs.
            let mut running = world;
            if let Resolved::Found(sandbox) = &mut running.sandbox {
                prop_assert!(sandbox.name.is_some() && sandbox.auto_resume);
                sandbox.state = SandboxState::Running;
            }
            running.in_flight = InFlight::default();
            let port = parsed.port().get();
            prop_assert!(oracle::may_pass(&request, &running, port), "{permit:?}");
            prop_assert!(!permit.is_public() || port != 9501);
        } else if let Decision::Evict(permit) = decision {
            // The request is permitted once slots are free, and its port is public.
            let free = World { in_flight: InFlight::default(), caller: Resolved::NotFound, ..world };
            let port = parsed.port().get();
            prop_assert!(oracle::may_pass(&request, &free, port));
            let permit = permit.into_permit();
            prop_assert_eq!(permit.caller(), None);
            let decision = decide(&parsed, &free.cached().facts(), &config);
            prop_assert_eq!(decision, Decision::Permit(permit));
        }
    }

    #[test]
    fn without_a_credential_all_ports_that_are_not_public_look_the_same(
        host in select(vec!["8080-my-env.local", "my-env.local", "9501-my-env.local", "4000-my-env.local"]),
        world in worlds(),
    ) {
        let mut world = world;
        match &mut world.sandbox {
            Resolved::Found(sandbox) => sandbox.allow_unauthenticated_access = false,
            // A user port might be public then, and gets 503.
            Resolved::Unavailable => world.sandbox = Resolved::NotFound,
            Resolved::NotFound => {}
        }
        let answer = outcome(&Req::get(host), &world);
        prop_assert_eq!(answer, "401 UNAUTHENTICATED");
    }

    #[test]
    fn facts_that_are_not_needed_do_not_change_the_decision(request in requests(), world in worlds(), other in worlds()) {
        let config = config();
        let Ok(Request::Sandbox(parsed)) = Request::parse(Head::new(&request.fields()), &config) else {
            return Ok(());
        };
        let mut changed = world.clone();
        if !parsed.needs_sandbox() {
            changed.sandbox = other.sandbox;
        }
        if !parsed.needs_caller(Some(&changed.cached().sandbox)) {
            changed.caller = other.caller;
        }
        prop_assert!(parsed.needs_sandbox() || !parsed.needs_caller(Some(&world.cached().sandbox)));
        prop_assert_eq!(
            decide(&parsed, &world.cached().facts(), &config),
            decide(&parsed, &changed.cached().facts(), &config)
        );
    }

    #[test]
    fn a_cleaned_request_has_no_secret_or_field_of_the_platform(request in requests(), world in worlds()) {
        let config = config();
        let Ok(Request::Sandbox(parsed)) = Request::parse(Head::new(&request.fields()), &config) else {
            return Ok(());
        };
        let decision = decide(&parsed, &world.cached().facts(), &config);
        let caller = match &decision {
            Decision::Permit(permit) => permit.caller(),
            _ => None,
        };
        let used = parsed.credential().filter(|_| caller.is_some());
        let changes = clean_request(Head::new(&request.fields()), &config, used, caller.as_ref());
        let received = apply(request.headers(), &changes);
        let secret = used.map(|credential| credential.secret().expose());
        prop_assert_eq!(oracle::leaks(&received, secret), Vec::<String>::new());
        let context: Vec<_> =
            received.iter().filter(|(name, _)| name.starts_with("x-forwarded-")).collect();
        match caller {
            None => prop_assert!(context.is_empty(), "{context:?}"),
            Some(caller) => {
                let verified = [caller.organization_id.as_str(), caller.project_id.as_str()];
                prop_assert!(context.iter().map(|(_, v)| v).eq(verified.iter().map(|v| v.as_bytes())));
            }
        }
        // What was cleaned needs no more cleaning.
        let again = clean_request(Head::new(&header::fields(&received)), &config, used, caller.as_ref());
        prop_assert_eq!(apply(&received, &again), received.clone());
        let pseudo = |headers: &[(String, Vec<u8>)]| -> Vec<(String, Vec<u8>)> {
            headers.iter().filter(|(name, _)| name.starts_with(':')).cloned().collect()
        };
        prop_assert_eq!(pseudo(&received), pseudo(request.headers()));
    }

    #[test]
    fn a_cleaned_api_request_has_no_internal_fields(request in requests()) {
        let received = apply(request.headers(), &clean_api_request(Head::new(&request.fields())));
        for (name, _) in &received {
            let plain = oracle::as_cgi_reads(name);
            prop_assert!(!plain.starts_with("x-sandgate-") && !plain.starts_with("x-envoy-"), "{name}");
        }
    }

    #[test]
    fn a_cleaned_response_sets_only_cookies_of_its_host(
        cookies in vec(set_cookies(), 0..4),
        host in select(vec!["8080-my-env.local", "local", "sandbox.example.com"]),
    ) {
        let headers: Vec<(String, Vec<u8>)> =
            cookies.into_iter().map(|cookie| ("set-cookie".to_owned(), cookie.into_bytes())).collect();
        let received = apply(&headers, &clean_response(Head::new(&header::fields(&headers)), &authority(host)));
        for (_, cookie) in &received {
            let cookie = String::from_utf8_lossy(cookie).to_lowercase();
            let name = cookie.split(['=', ';']).next().unwrap_or_default().trim().to_owned();
            prop_assert!(!["", "tl-session", "tl.session_token"].contains(&name.as_str()), "{cookie}");
            let mut attributes = cookie.split(';').skip(1).filter_map(|a| a.split('=').next());
            prop_assert!(!attributes.any(|name| name.trim() == "domain"), "{cookie}");
        }
    }
}

/// The properties above say little if what they are tried on is always refused.
#[test]
fn the_generated_requests_lead_to_every_decision() {
    let mut runner = TestRunner::deterministic();
    let mut ends = BTreeSet::new();
    for _ in 0..20_000 {
        let tree = (requests(), worlds()).new_tree(&mut runner).expect("a request and a world");
        let (request, world) = tree.current();
        let end = outcome(&request, &world);
        // Without the upstream.
        let (verb, rest) = end.split_once(' ').expect("two words");
        let short = format!("{verb} {}", rest.rsplit(' ').next().unwrap_or_default());
        ends.insert(if verb == "permit" { short } else { end });
    }
    // Two are about a response, and one about headers that are larger than those of these requests.
    let others = ["UPSTREAM_INVALID", "UPSTREAM_RESET", "HEADERS_TOO_LARGE"];
    let codes = Denial::CODES.iter().filter(|code| !others.contains(code)).count();
    let refusals = ends.iter().filter(|end| end.starts_with(['4', '5'])).count();
    assert_eq!(refusals, codes, "{ends:?}");
    for end in ["permit nobody", "permit key_1", "resume for nobody", "resume for the caller"] {
        assert!(ends.contains(end), "{end}: {ends:?}");
    }
    for start in ["preflight", "evict"] {
        assert!(ends.iter().any(|end| end.starts_with(start)), "{start}: {ends:?}");
    }
}
