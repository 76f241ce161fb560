//! Cookies, origins, and preflights.

use super::host::Headers;

use super::support::{
    DOMAIN, Gateway, KEY, bearer, denial, denied, forwarded, replied, to, websocket, with_key,
    with_session,
};

fn post(sandbox: &str) -> Headers {
    Headers::request("POST", &format!("8080-{sandbox}.{DOMAIN}"), "/")
}

fn cross_origin() -> (u16, String) {
    denial(403, "CROSS_ORIGIN")
}

#[test]
fn an_unsafe_method_with_a_cookie_needs_its_own_or_a_trusted_origin() {
    let gateway = Gateway::new();
    for origin in [
        "https://8080-my-env.sandbox.localhost",
        "http://8080-my-env.sandbox.localhost",
        "https://8080-MY-ENV.sandbox.localhost",
        "https://app.example.com",
    ] {
        gateway.passes(with_session(post("my-env")).with("origin", origin));
    }
    for origin in [
        "null",
        "",
        "https://evil.test",
        "https://app.example.com.evil.test",
        "https://app.example.com:8443",
        "http://app.example.com",
        "https://3000-my-env.sandbox.localhost",
        "https://8080-other.sandbox.localhost",
        "https://sandbox.localhost",
        "https://8080-my-env.sandbox.localhost/",
        "8080-my-env.sandbox.localhost",
        "\u{fffd}",
    ] {
        let headers = with_session(post("my-env")).with("origin", origin);
        assert_eq!(gateway.denies(headers), cross_origin(), "{origin}");
    }
    let twice = with_session(post("my-env"))
        .with("origin", "https://8080-my-env.sandbox.localhost")
        .with("origin", "https://evil.test");
    assert_eq!(gateway.denies(twice), cross_origin());
}

#[test]
fn without_an_origin_sec_fetch_site_decides() {
    let gateway = Gateway::new();
    gateway.passes(with_session(post("my-env")));
    for (site, passes) in
        [("same-origin", true), ("none", true), ("cross-site", false), ("same-site", false)]
    {
        let headers = with_session(post("my-env")).with("sec-fetch-site", site);
        match passes {
            true => drop(gateway.passes(headers)),
            false => assert_eq!(gateway.denies(headers), cross_origin(), "{site}"),
        }
    }
}

#[test]
fn a_safe_method_with_a_cookie_may_have_any_origin_but_an_upgrade_may_not() {
    let gateway = Gateway::new();
    let get = || with_session(to(8080, "my-env")).with("origin", "https://evil.test");
    gateway.passes(get());
    assert_eq!(gateway.denies(websocket(get())), cross_origin());
    let extended = Headers::request("CONNECT", &format!("8080-my-env.{DOMAIN}"), "/socket")
        .with(":protocol", "websocket")
        .with("origin", "https://evil.test");
    assert_eq!(gateway.denies(with_session(extended)), cross_origin());
    let own = with_session(websocket(to(8080, "my-env")));
    gateway.passes(own.with("origin", "https://8080-my-env.sandbox.localhost"));
}

#[test]
fn a_bearer_token_may_have_any_origin() {
    let gateway = Gateway::new();
    gateway.passes(bearer(post("my-env"), KEY).with("origin", "https://evil.test"));
    gateway.passes(websocket(bearer(to(8080, "my-env"), KEY)).with("origin", "null"));
}

#[test]
fn the_origin_is_checked_only_for_a_valid_credential() {
    let headers = Headers::from([("cookie", "tl.session_token=wrong")]);
    let headers = headers.iter().fold(post("my-env"), |all, (name, value)| all.with(name, value));
    let headers = super::support::in_project(headers).with("origin", "https://evil.test");
    assert_eq!(Gateway::new().denies(headers), denial(401, "INVALID_CREDENTIALS"));
}

fn preflight(sandbox: &str, origin: &str) -> Headers {
    Headers::request("OPTIONS", &format!("8080-{sandbox}.{DOMAIN}"), "/api")
        .with("origin", origin)
        .with("access-control-request-method", "PUT")
        .with("access-control-request-headers", "authorization, x-mine")
}

#[test]
fn the_gateway_replies_to_a_preflight_of_a_trusted_origin() {
    let gateway = Gateway::new();
    for sandbox in ["my-env", "no-such-sandbox", "theirs", "asleep"] {
        let stream = gateway.send(preflight(sandbox, "https://app.example.com"));
        let reply = replied(&stream);
        assert_eq!((reply.status, reply.body.as_str()), (204, ""), "{sandbox}");
        let header = |name: &str| reply.headers.value(name).unwrap_or_default();
        assert_eq!(header("access-control-allow-origin"), "https://app.example.com");
        assert_eq!(header("access-control-allow-credentials"), "true");
        assert!(header("access-control-allow-methods").contains("PUT"));
        assert_eq!(header("access-control-allow-headers"), "authorization, x-mine");
        assert!(header("vary").to_ascii_lowercase().contains("origin"));
    }
    assert_eq!(gateway.calls("POST /"), 0, "nothing was introspected or resumed");
}

#[test]
fn a_preflight_of_any_other_origin_is_denied_and_its_origin_never_reflected() {
    let gateway = Gateway::new();
    for origin in ["https://evil.test", "null", "https://8080-my-env.sandbox.localhost.evil.test"] {
        for sandbox in ["my-env", "no-such-sandbox", "theirs"] {
            let stream = gateway.send(preflight(sandbox, origin));
            assert_eq!(denied(&stream), cross_origin(), "{sandbox} {origin}");
            let reply = replied(&stream);
            assert!(!reply.headers.contains("access-control-allow-origin"));
            assert!(!reply.headers.mention(origin) && !reply.body.contains(origin));
            // A browser sends no credential in a preflight, so the error gives other advice.
            assert!(reply.body.contains("trusted_origins"), "{}", reply.body);
        }
    }
}

#[test]
fn a_preflight_cannot_inject_headers_into_its_reply() {
    let gateway = Gateway::new();
    let host = format!("8080-my-env.{DOMAIN}");
    for wanted in ["x\r\nset-cookie: a=1", "x: y", "\u{1F600}", "a;b", "<script>"] {
        let headers = Headers::request("OPTIONS", &host, "/")
            .with("origin", "https://app.example.com")
            .with("access-control-request-method", "PUT")
            .with("access-control-request-headers", wanted);
        let reply = replied(&gateway.send(headers));
        assert!(!reply.headers.mention(wanted), "{wanted}");
    }
}

#[test]
fn a_preflight_on_a_public_port_is_forwarded_to_the_app() {
    let gateway = Gateway::new();
    for origin in ["https://evil.test", "https://app.example.com"] {
        let stream = gateway.send(preflight("shop", origin));
        assert_eq!(forwarded(&stream).upstream.as_deref(), Some("127.64.0.3:8080"));
    }
}

#[test]
fn an_options_request_that_is_not_a_preflight_needs_a_credential() {
    let gateway = Gateway::new();
    let plain = Headers::request("OPTIONS", &format!("8080-my-env.{DOMAIN}"), "*");
    assert_eq!(gateway.denies(plain.clone()), denial(401, "UNAUTHENTICATED"));
    gateway.passes(bearer(plain.with("origin", "https://evil.test"), KEY));
}

#[test]
fn an_upgrade_over_http2_gets_the_websocket_key_that_apps_require() {
    let gateway = Gateway::new();
    let extended = || websocket(with_key(3000, "my-env")).with("x-request-id", "0123456789abcdef");
    let forwarded = gateway.passes(extended());
    assert_eq!(forwarded.headers.values("sec-websocket-key"), ["0123456789abcdefAAAAAA=="]);
    let own = extended().with("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    let forwarded = gateway.passes(own);
    assert_eq!(forwarded.headers.values("sec-websocket-key"), ["dGhlIHNhbXBsZSBub25jZQ=="]);
    assert!(!gateway.passes(with_key(3000, "my-env")).headers.contains("sec-websocket-key"));
}

/// The headers of a denial that let a page read it.
fn readable_by(reply: &Headers) -> Option<String> {
    let origin = reply.value("access-control-allow-origin")?;
    assert_eq!(reply.values("access-control-allow-credentials"), ["true"]);
    assert_eq!(reply.values("vary"), ["Origin"]);
    let exposed = reply.value("access-control-expose-headers").unwrap_or_default();
    for name in ["retry-after", "www-authenticate", "x-request-id"] {
        assert!(exposed.contains(name), "{exposed}");
    }
    Some(origin)
}

#[test]
fn only_pages_of_a_trusted_origin_may_read_denials() {
    let gateway = Gateway::new();
    for request in [
        to(8080, "my-env"),
        bearer(to(8080, "my-env"), "tl_apiKey_wrong"),
        with_key(4444, "my-env"),
        with_key(8080, "no-such-sandbox"),
        Headers::get("nowhere.test", "/"),
    ] {
        let trusted = request.clone().with("origin", "https://app.example.com");
        let reply = replied(&gateway.send(trusted));
        assert_eq!(readable_by(&reply.headers).as_deref(), Some("https://app.example.com"));
        for origin in ["https://evil.test", "null", "https://app.example.com.evil.test"] {
            let reply = replied(&gateway.send(request.clone().with("origin", origin)));
            assert_eq!(readable_by(&reply.headers), None, "{origin}");
            assert!(!reply.headers.mention(origin));
        }
        assert_eq!(readable_by(&replied(&gateway.send(request)).headers), None);
    }
}

#[test]
fn pages_of_a_trusted_origin_may_read_envoys_local_replies_but_an_app_sets_its_own_cors_headers() {
    let gateway = Gateway::new();
    let answered = |details: Option<&str>, status: &str| {
        let request = with_key(8080, "my-env").with("origin", "https://app.example.com");
        let stream = gateway.send(request.with("x-request-id", "r-1"));
        if let Some(details) = details {
            stream.set_attribute("response.code_details", details);
        }
        let response = stream.respond(Headers::from([(":status", status)])).expect("a response");
        stream.complete();
        response
    };
    let local = answered(Some("upstream_reset_before_response_started{connection_failure}"), "503");
    assert_eq!(readable_by(&local).as_deref(), Some("https://app.example.com"));
    assert_eq!(local.values("x-request-id"), ["r-1"]);
    for (details, status) in [(Some("via_upstream"), "503"), (None, "503"), (Some(""), "502")] {
        let of_the_app = answered(details, status);
        assert_eq!(of_the_app, Headers::from([(":status", status)]));
    }
}
