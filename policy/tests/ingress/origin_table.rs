//! Cross-origin requests: the origins that may use a session cookie, and the responses to preflights.

use sandgate_policy::ingress::denial::Denial;
use sandgate_policy::ingress::{Decision, Resolved, decide};
use test_case::test_case;

use crate::ingress::support::{APP, KEY, MANAGEMENT, Req, World, config, outcome, parsed};

const CROSS_ORIGIN: &str = "403 CROSS_ORIGIN";
const PERMIT: &str = "permit 10.1.0.2:8080 for key_1";

fn post() -> Req {
    Req::new("POST", APP).session()
}

fn upgrade() -> Req {
    Req::get(APP).session().and("upgrade", "websocket").and("connection", "upgrade")
}

fn upgrade_h2() -> Req {
    Req::new("CONNECT", APP).session().and(":protocol", "websocket")
}

#[test_case(post() => PERMIT; "no browser: neither Origin nor Sec-Fetch-Site")]
#[test_case(post().and("origin", format!("https://{APP}")) => PERMIT; "this host")]
#[test_case(post().and("origin", format!("http://{APP}")) => PERMIT; "this host without TLS, which may end in front of the gateway")]
#[test_case(post().and("origin", format!("HTTPS://{}", APP.to_uppercase())) => CROSS_ORIGIN; "a scheme in capitals, as no browser writes it")]
#[test_case(post().and("origin", format!("https://{}", APP.to_uppercase())) => PERMIT; "this host in capitals")]
#[test_case(post().and("origin", format!("https://{APP}:443")) => PERMIT; "this host with the default port")]
#[test_case(post().and("origin", "https://app.example.com") => PERMIT; "a trusted origin")]
#[test_case(post().and("origin", "https://app.example.com").and("sec-fetch-site", "cross-site") => PERMIT; "a trusted origin is another site")]
#[test_case(post().and("sec-fetch-site", "same-origin") => PERMIT; "same origin by Sec-Fetch-Site")]
#[test_case(post().and("sec-fetch-site", "none") => PERMIT; "the user started the request, by Sec-Fetch-Site")]
#[test_case(post().and("origin", "null") => CROSS_ORIGIN; "null")]
#[test_case(post().and("origin", "null").and("sec-fetch-site", "same-origin") => CROSS_ORIGIN; "null, whatever Sec-Fetch-Site says")]
#[test_case(post().and("origin", "") => CROSS_ORIGIN; "empty")]
#[test_case(post().and("origin", "https://evil.com") => CROSS_ORIGIN; "another site")]
#[test_case(post().and("origin", "https://3000-my-env.sandbox.example.com") => CROSS_ORIGIN; "another port of the same sandbox")]
#[test_case(post().and("origin", "https://8080-evil.sandbox.example.com") => CROSS_ORIGIN; "another sandbox")]
#[test_case(post().and("origin", "https://sandbox.example.com") => CROSS_ORIGIN; "the bare domain")]
#[test_case(post().and("origin", format!("https://{APP}:8443")) => CROSS_ORIGIN; "another port of this host")]
#[test_case(post().and("origin", format!("https://{APP}:80")) => CROSS_ORIGIN; "the default port of the other scheme")]
#[test_case(post().and("origin", format!("https://{APP}.evil.com")) => CROSS_ORIGIN; "this host as a prefix")]
#[test_case(post().and("origin", format!("https://evil.com/{APP}")) => CROSS_ORIGIN; "this host as a path")]
#[test_case(post().and("origin", format!("https://{APP}/")) => CROSS_ORIGIN; "this host with a slash")]
#[test_case(post().and("origin", APP) => CROSS_ORIGIN; "this host without a scheme")]
#[test_case(post().and("origin", format!("chrome-extension://{APP}")) => CROSS_ORIGIN; "another scheme")]
#[test_case(post().and("origin", "http://app.example.com") => CROSS_ORIGIN; "a trusted origin without TLS")]
#[test_case(post().and("origin", "https://app.example.com.evil.com") => CROSS_ORIGIN; "a trusted origin as a prefix")]
#[test_case(post().and("origin", format!("https://{APP}")).and("origin", "https://evil.com") => CROSS_ORIGIN; "two origins")]
#[test_case(post().and("origin", format!("https://{APP},https://evil.com")) => CROSS_ORIGIN; "two origins joined by a comma")]
#[test_case(post().and("sec-fetch-site", "cross-site") => CROSS_ORIGIN; "another site by Sec-Fetch-Site alone")]
#[test_case(post().and("sec-fetch-site", "same-site") => CROSS_ORIGIN; "another sandbox by Sec-Fetch-Site alone")]
#[test_case(post().and("sec-fetch-site", "none").and("sec-fetch-site", "cross-site") => CROSS_ORIGIN; "two values of Sec-Fetch-Site")]
fn a_cookie_with_an_unsafe_method_needs_a_trusted_or_own_origin(request: Req) -> String {
    outcome(&request, &World::new())
}

#[test_case("GET" => PERMIT; "get")]
#[test_case("HEAD" => PERMIT; "head")]
#[test_case("OPTIONS" => PERMIT; "options")]
#[test_case("TRACE" => PERMIT; "trace")]
#[test_case("POST" => CROSS_ORIGIN; "post")]
#[test_case("PUT" => CROSS_ORIGIN; "put")]
#[test_case("PATCH" => CROSS_ORIGIN; "patch")]
#[test_case("DELETE" => CROSS_ORIGIN; "delete")]
#[test_case("CONNECT" => CROSS_ORIGIN; "connect")]
#[test_case("get" => CROSS_ORIGIN; "methods are case-sensitive")]
#[test_case("PROPFIND" => CROSS_ORIGIN; "any other")]
#[test_case("" => CROSS_ORIGIN; "none")]
fn safe_methods_may_come_from_anywhere(method: &str) -> String {
    let request = Req::new(method, APP).session().and("origin", "https://evil.com");
    outcome(&request, &World::new())
}

#[test_case(upgrade().and("origin", format!("https://{APP}")) => PERMIT; "this host in HTTP/1.1")]
#[test_case(upgrade_h2().and("origin", format!("https://{APP}")) => PERMIT; "this host in HTTP/2")]
#[test_case(upgrade() => PERMIT; "no browser")]
#[test_case(upgrade().and("origin", "https://evil.com") => CROSS_ORIGIN; "another site in HTTP/1.1")]
#[test_case(upgrade_h2().and("origin", "https://evil.com") => CROSS_ORIGIN; "another site in HTTP/2")]
#[test_case(upgrade().and("origin", "null") => CROSS_ORIGIN; "null")]
#[test_case(upgrade().and("sec-fetch-site", "cross-site") => CROSS_ORIGIN; "another site by Sec-Fetch-Site alone")]
#[test_case(Req::get(APP).session().and("upgrade", "anything").and("origin", "https://evil.com") => CROSS_ORIGIN; "any other protocol")]
fn a_cookie_on_an_upgrade_needs_a_trusted_or_own_origin(request: Req) -> String {
    outcome(&request, &World::new())
}

#[test]
fn only_the_use_of_a_cookie_depends_on_the_origin() {
    let evil = |request: Req| request.and("origin", "https://evil.com");
    for request in [
        evil(Req::new("POST", APP)).bearer(KEY),
        evil(Req::new("POST", APP)).bearer("other"),
        evil(Req::new("POST", APP)).and("x-sandgate-authorization", format!("Bearer {KEY}")),
        // The cookie is there, but the bearer is what counts.
        evil(post()).bearer(KEY),
    ] {
        assert_eq!(outcome(&request, &World::new()), PERMIT);
    }
    let public = outcome(&evil(post()), &World::new().public());
    assert_eq!(public, "permit 10.1.0.2:8080 for nobody");
}

#[test]
fn a_request_of_another_site_does_not_reveal_whether_a_sandbox_exists() {
    let request = post().and("origin", "https://evil.com");
    for sandbox in [World::new().sandbox, Resolved::NotFound] {
        assert_eq!(outcome(&request, &World { sandbox, ..World::new() }), CROSS_ORIGIN);
    }
}

fn preflight(host: &str, origin: &str) -> Req {
    Req::new("OPTIONS", host).and("origin", origin).and("access-control-request-method", "POST")
}

const TRUSTED: &str = "https://app.example.com";
const ANSWERED: &str = "preflight of https://app.example.com answered";
const NOT_ASKABLE: &str = "503 SANDBOX_UPSTREAM_ERROR";

fn no_sandbox() -> World {
    World { sandbox: Resolved::NotFound, ..World::new() }
}

fn no_route() -> World {
    World { sandbox: Resolved::Unavailable, ..World::new() }
}

#[test_case(preflight(APP, TRUSTED), World::new() => ANSWERED; "a trusted origin")]
#[test_case(preflight(APP, "https://APP.example.com"), World::new() => ANSWERED; "a trusted origin in other case, answered in the operator's")]
#[test_case(preflight(MANAGEMENT, TRUSTED), World::new() => ANSWERED; "a trusted origin to the management port")]
#[test_case(preflight(APP, TRUSTED), no_sandbox() => ANSWERED; "a trusted origin, whether or not the sandbox exists")]
#[test_case(preflight("4000-my-env.local", TRUSTED), World::new() => ANSWERED; "a trusted origin, whether or not the port is exposed")]
#[test_case(preflight(APP, "https://evil.com"), World::new() => CROSS_ORIGIN; "another site")]
#[test_case(preflight(APP, "https://evil.com"), no_sandbox() => CROSS_ORIGIN; "another site, whether or not the sandbox exists")]
#[test_case(preflight(MANAGEMENT, "https://evil.com"), World::new() => CROSS_ORIGIN; "another site to the management port")]
#[test_case(preflight(MANAGEMENT, "https://evil.com"), World::new().public() => CROSS_ORIGIN; "another site to the management port of a public sandbox")]
#[test_case(preflight("4000-my-env.local", "https://evil.com"), World::new().public() => CROSS_ORIGIN; "another site to a closed port of a public sandbox")]
#[test_case(preflight(APP, "null"), World::new() => CROSS_ORIGIN; "null")]
#[test_case(preflight(APP, TRUSTED).and("origin", TRUSTED), World::new() => CROSS_ORIGIN; "two origins, even trusted ones")]
#[test_case(preflight(APP, "https://evil.com").bearer(KEY), World::new() => CROSS_ORIGIN; "another site with a credential, which no browser sends here")]
#[test_case(preflight(APP, "https://evil.com"), World::new().public() => "permit 10.1.0.2:8080 for nobody"; "a preflight on a public port goes to the app")]
#[test_case(preflight(APP, TRUSTED), World::new().public() => "permit 10.1.0.2:8080 for nobody"; "a preflight of a trusted origin on a public port goes to the app")]
#[test_case(preflight(APP, TRUSTED), no_route() => NOT_ASKABLE; "the sandbox is not known, so the port may be public")]
#[test_case(preflight(APP, "https://evil.com"), no_route() => NOT_ASKABLE; "the sandbox is not known, and the origin is not trusted")]
#[test_case(preflight(MANAGEMENT, TRUSTED), no_route() => ANSWERED; "the management port never is public")]
#[test_case(Req::new("OPTIONS", APP).and("origin", TRUSTED), World::new() => "401 UNAUTHENTICATED"; "without a requested method it is not a preflight")]
#[test_case(Req::new("OPTIONS", APP).and("access-control-request-method", "POST"), World::new() => "401 UNAUTHENTICATED"; "without an origin it is not a preflight")]
#[test_case(Req::get(APP).and("origin", TRUSTED).and("access-control-request-method", "POST"), World::new() => "401 UNAUTHENTICATED"; "with another method it is not a preflight")]
fn preflights(request: Req, world: World) -> String {
    outcome(&request, &world)
}

#[test]
fn a_preflight_needs_the_sandbox_only_to_know_whether_the_port_is_public() {
    for (host, needs_sandbox) in [(APP, true), (MANAGEMENT, false)] {
        let parsed = parsed(&preflight(host, TRUSTED).bearer(KEY)).expect("a sandbox's host");
        assert_eq!(parsed.needs_sandbox(), needs_sandbox, "{host}");
        assert!(!parsed.needs_caller(None), "{host}");
        assert!(!parsed.needs_caller(Some(&World::new().cached().sandbox)), "{host}");
    }
}

#[test]
fn a_denied_preflight_has_another_message_than_a_cookie_of_another_site() {
    let decision = |request: &Req| {
        let parsed = parsed(request).ok()?;
        Some(decide(&parsed, &World::new().cached().facts(), &config()))
    };
    let refused = decision(&preflight(APP, "https://evil.com"));
    assert_eq!(refused, Some(Decision::Deny(Denial::PreflightOrigin)));
    let cookie = decision(&post().and("origin", "https://evil.com"));
    assert_eq!(cookie, Some(Decision::Deny(Denial::CrossOrigin)));
}
