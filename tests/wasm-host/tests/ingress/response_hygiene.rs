//! Headers that the gateway removes from responses.

use super::host::Headers;

use super::support::{DOMAIN, Gateway, KEY, PAT, bearer, in_project, to, with_key};

/// The response that the client receives for a response of the sandbox.
fn through(response: Headers) -> Headers {
    let gateway = Gateway::new();
    let stream = gateway.send(in_project(bearer(to(8080, "my-env"), PAT)));
    let response = stream.respond(response).expect("a response");
    stream.complete();
    response
}

#[test]
fn a_sandbox_cannot_set_platform_cookies_or_cookies_for_a_parent_domain() {
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
fn a_sandbox_cannot_send_the_gateways_headers() {
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
fn a_sandbox_cannot_send_headers_that_proxies_in_front_obey() {
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
fn trailers_contain_no_field_that_must_precede_the_content() {
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
fn a_response_without_forbidden_headers_is_unchanged() {
    let response =
        Headers::from([(":status", "204"), ("set-cookie", "a=1"), ("set-cookie", "b=2")])
            .with("x-bytes", [0xff, 0xfe])
            .with("server", "app");
    assert_eq!(through(response.clone()), response);
}

#[test]
fn a_response_with_hostile_bytes_does_not_trap() {
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
fn a_websocket_upgrade_is_cleaned_and_forwarded() {
    let gateway = Gateway::new();
    let upgrade = super::support::websocket(with_key(3000, "my-env"))
        .with("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .with("sec-websocket-protocol", "chat");
    let forwarded = gateway.passes(upgrade);
    for name in ["upgrade", "connection", "sec-websocket-key", "sec-websocket-protocol"] {
        assert!(forwarded.headers.contains(name), "{name}");
    }
    assert!(!forwarded.headers.mention(KEY));
}
