//! Headers that the gateway removes from requests.

use super::host::Headers;

use super::support::{DOMAIN, Gateway, SESSION, bearer, to, with_key, with_session};

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
fn contract_headers_that_are_not_internal_reach_the_sandbox() {
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
fn a_platform_secret_is_removed_from_any_position() {
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
fn session_cookies_are_removed_and_other_cookies_stay_unchanged() {
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
fn a_token_in_the_query_is_forwarded_to_the_app() {
    let headers = Headers::get(&format!("8080-shop.{DOMAIN}"), "/?token=abc&organizationId=o");
    let forwarded = Gateway::new().passes(headers);
    assert_eq!(forwarded.headers.value(":path").as_deref(), Some("/?token=abc&organizationId=o"));
}
