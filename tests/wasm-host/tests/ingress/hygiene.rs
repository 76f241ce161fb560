//! What must not cross the gateway, in either direction.

use sandgate_wasm_host::Headers;

use crate::support::{
    DOMAIN, Gateway, KEY, PAT, SESSION, bearer, in_project, to, with_key, with_session,
};

#[test]
fn internal_headers_of_a_client_do_not_reach_the_sandbox() {
    let gateway = Gateway::new();
    for name in [
        "x-tensorlake-sandbox-name",
        "x-tensorlake-sandbox-",
        "x-tensorlake-route-hint",
        "x-tensorlake-route-hint-2",
        "x-sandgate-principal",
        "x-sandgate-anything",
        "x-envoy-original-dst-host",
        "x-envoy-retry-on",
        "x_envoy_retry_on",
        "x-sandgate_principal",
        "x.sandgate.principal",
        "x.forwarded.project.id",
        "x_forwarded-project.id",
        "x~tensorlake!sandbox#id",
        "x-forwarded",
        "client-ip",
        "proxy",
    ] {
        for headers in [with_key(8080, "my-env"), to(8080, "shop")] {
            let forwarded =
                gateway.passes(headers.with(name, "1").with(name, "2").with("x-ok", "3"));
            assert!(!forwarded.headers.contains(name), "{name}");
            assert_eq!(forwarded.headers.values("x-ok"), ["3"]);
        }
    }
}

#[test]
fn headers_of_the_contract_that_are_not_internal_reach_the_sandbox() {
    let headers = with_key(8080, "my-env")
        .with("x-tensorlake-request-timeout-ms", "30000")
        .with("x-request-id", "r")
        .with("x-forwarded-for", "192.0.2.1")
        .with("origin", "https://elsewhere.test");
    let forwarded = Gateway::new().passes(headers);
    for name in ["x-tensorlake-request-timeout-ms", "x-request-id", "x-forwarded-for", "origin"] {
        assert!(forwarded.headers.contains(name), "{name}");
    }
}

#[test]
fn organization_and_project_reach_the_sandbox_only_as_verified() {
    let gateway = Gateway::new();
    let lie = with_key(8080, "my-env")
        .with("x-forwarded-organization-id", "org_of_someone")
        .with("x-forwarded-project-id", "proj_of_someone")
        .with("x_forwarded_project_id", "proj_of_someone");
    let forwarded = gateway.passes(lie);
    assert_eq!(forwarded.headers.values("x-forwarded-organization-id"), ["org_1"]);
    assert_eq!(forwarded.headers.values("x-forwarded-project-id"), ["proj_1"]);
    assert!(!forwarded.headers.mention("of_someone"), "{:?}", forwarded.headers);
}

#[test]
fn a_platform_secret_is_recognized_wherever_it_stands() {
    let gateway = Gateway::new();
    let secret = "tl_apiKey_0123456789abcdef0123456789";
    for (name, value) in [
        ("authorization", format!("Bearer {secret}")),
        ("authorization", format!("bearer  {secret}")),
        ("authorization", format!("Token {secret}")),
        ("authorization", secret.to_owned()),
        ("authorization", format!("Bearer app, Bearer {secret}")),
        ("proxy-authorization", format!("Bearer {secret}")),
        ("x-api-key", secret.to_owned()),
        ("x-auth-token", format!("Bearer {secret}")),
    ] {
        let forwarded = gateway.passes(to(8080, "shop").with(name, &value));
        assert!(!forwarded.headers.mention(secret), "{name}: {value}");
    }
}

#[test]
fn a_platform_secret_is_recognized_as_the_value_of_any_cookie() {
    let gateway = Gateway::new();
    let secret = "tl_apiKey_0123456789abcdef0123456789";
    for cookie in [
        format!("token={secret}"),
        format!("token=\"{secret}\""),
        format!("token=Bearer {secret}"),
        format!("Bearer {secret}"),
        secret.to_owned(),
    ] {
        let forwarded = gateway.passes(to(8080, "shop").with("cookie", format!("a=1; {cookie}")));
        assert!(!forwarded.headers.mention(secret), "{cookie}");
        assert_eq!(forwarded.headers.values("cookie"), ["a=1"]);
    }
}

#[test]
fn the_credential_that_was_used_is_removed_from_every_header() {
    let gateway = Gateway::new();
    let headers = bearer(to(8080, "my-env"), "an-older-key-without-prefix")
        .with("x-api-key", "an-older-key-without-prefix")
        .with("x-other", "Bearer an-older-key-without-prefix");
    let forwarded = gateway.passes(headers);
    assert!(!forwarded.headers.mention("an-older-key"), "{:?}", forwarded.headers);
    let session = with_session(to(8080, "my-env")).with("x-session", SESSION);
    assert!(!gateway.passes(session).headers.mention(SESSION));
}

#[test]
fn other_cookies_stay_as_they_are_and_session_cookies_go() {
    let gateway = Gateway::new();
    for (sent, left) in [
        ("a=1; tl.session_token=S; b=\"2;3\"", Some("a=1; b=\"2; 3\"")),
        ("tl.session_token=S", None),
        ("tl-session=S; tl.session_token=T", None),
        ("a=1;tl-session=S;b", Some("a=1; b")),
        ("tl.session_tokens=1; xtl-session=2", Some("tl.session_tokens=1; xtl-session=2")),
        (" tl.session_token = S ; a=1", Some("a=1")),
    ] {
        let forwarded = gateway.passes(to(8080, "shop").with("cookie", sent));
        let expected: Vec<String> = left.map(str::to_owned).into_iter().collect();
        assert_eq!(forwarded.headers.values("cookie"), expected, "{sent}");
    }
    let several =
        to(8080, "shop").with("cookie", "a=1").with("cookie", "tl-session=S").with("cookie", "b=2");
    assert_eq!(gateway.passes(several).headers.values("cookie").join("; "), "a=1; b=2");
}

#[test]
fn a_token_in_the_query_of_a_request_is_the_apps_business() {
    let headers = Headers::get(&format!("8080-shop.{DOMAIN}"), "/?token=abc&organizationId=o");
    let forwarded = Gateway::new().passes(headers);
    assert_eq!(forwarded.headers.value(":path").as_deref(), Some("/?token=abc&organizationId=o"));
}

/// A response of the sandbox, as the client gets it.
fn through(response: Headers) -> Headers {
    let gateway = Gateway::new();
    let stream = gateway.send(in_project(bearer(to(8080, "my-env"), PAT)));
    let response = stream.respond(response).expect("a response");
    stream.complete();
    response
}

#[test]
fn a_sandbox_cannot_set_the_platforms_cookies_nor_cookies_for_a_parent_domain() {
    let host = format!("8080-my-env.{DOMAIN}");
    let own = format!("i=9; Domain={host}");
    let mut response = Headers::from([(":status", "200")]);
    for cookie in [
        "a=1; Path=/; HttpOnly",
        "tl.session_token=evil; Path=/",
        "tl-session=evil",
        " tl-session = evil",
        "b=2; Domain=sandbox.localhost",
        "c=3; domain=.sandbox.localhost",
        "d=4; DOMAIN=localhost",
        "=tl-session=evil",
        "tl-session",
        "e=5; Domain=; Path=/",
        "f=6; Domain=other.sandbox.localhost",
        own.as_str(),
    ] {
        response = response.with("set-cookie", cookie);
    }
    let passed = through(response).values("set-cookie");
    let names: Vec<&str> = passed.iter().filter_map(|cookie| cookie.get(..2)).collect();
    assert_eq!(names, ["a=", "e=", "i="], "{passed:?}");
    assert_eq!(passed[0], "a=1; Path=/; HttpOnly", "as it came");
    for cookie in &passed {
        let domain = cookie.split_once("Domain=").map_or("", |(_, domain)| domain);
        assert!(domain.is_empty() || domain.starts_with(&host), "{cookie}");
    }
}

#[test]
fn a_sandbox_cannot_speak_as_the_gateway() {
    let passed = through(
        Headers::from([(":status", "200"), ("x-sandgate-code", "1"), ("x-sandgate_x", "2")])
            .with("x-app", "3")
            .with("www-authenticate", "Basic"),
    );
    assert!(!passed.contains("x-sandgate-code") && !passed.contains("x-sandgate_x"));
    assert_eq!(passed.values("x-app"), ["3"]);
    assert_eq!(passed.values("www-authenticate"), ["Basic"], "the app's own");
}

#[test]
fn a_sandbox_cannot_steer_proxies_in_front() {
    let mut response = Headers::from([(":status", "200"), ("x-app", "1")]);
    let names = [
        "x-envoy-immediate-health-check-fail",
        "x_envoy_degraded",
        "x-accel-redirect",
        "x.accel.redirect",
        "x-sendfile",
        "x-lighttpd-send-file",
        "x-reproxy-url",
        "x-litespeed-location",
        "surrogate-control",
        "endpoint-load-metrics",
        "alt-svc",
    ];
    for name in names {
        response = response.with(name, "1").with(name, "2");
    }
    assert_eq!(through(response), Headers::from([(":status", "200"), ("x-app", "1")]));
}

#[test]
fn trailers_hold_nothing_that_must_be_known_before_the_content() {
    let gateway = Gateway::new();
    let stream = gateway.send(with_key(8080, "my-env"));
    let of_the_app = || Headers::from([("grpc-status", "0"), ("digest", "x"), ("x-anything", "1")]);
    let mut trailers = of_the_app();
    for name in [
        "x-forwarded-for",
        "x_forwarded_proto",
        "x.forwarded.project.id",
        "content-length",
        "transfer-encoding",
        "connection",
        "host",
        "authorization",
        "cookie",
        "set-cookie",
        "content-type",
        "x-sandgate-principal",
        "x-envoy-retry-on",
    ] {
        trailers = trailers.with(name, "1");
    }
    assert_eq!(stream.send_trailers(trailers.clone().with("x-key", KEY)), Some(of_the_app()));
    stream.respond(Headers::from([(":status", "200")])).expect("a response");
    assert_eq!(stream.respond_with_trailers(trailers.with("alt-svc", "x")), Some(of_the_app()));
    stream.complete();
}

#[test]
fn a_response_that_needs_no_cleaning_is_left_as_it_is() {
    let response =
        Headers::from([(":status", "204"), ("set-cookie", "a=1"), ("set-cookie", "b=2")])
            .with("x-bytes", [0xff, 0xfe])
            .with("server", "app");
    assert_eq!(through(response.clone()), response);
}

#[test]
fn a_response_full_of_hostile_bytes_is_survived() {
    let mut response = Headers::from([(":status", "200")]);
    for cookie in [&b"\xff\xfe"[..], b"a=\xff; domain=\xff", b"", b";;;", b"=", b"a=1; domain"] {
        response = response.with("set-cookie", cookie);
    }
    for number in 0..1_000 {
        response = response.with(format!("x-{number}"), [0xff; 8]);
    }
    assert_eq!(through(response).value(":status").as_deref(), Some("200"));
}

#[test]
fn a_websocket_upgrade_is_cleaned_and_kept() {
    let gateway = Gateway::new();
    let upgrade = crate::support::websocket(with_key(3000, "my-env"))
        .with("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .with("sec-websocket-protocol", "chat");
    let forwarded = gateway.passes(upgrade);
    for name in ["upgrade", "connection", "sec-websocket-key", "sec-websocket-protocol"] {
        assert!(forwarded.headers.contains(name), "{name}");
    }
    assert!(!forwarded.headers.mention(KEY));
}
