//! Public ports: the gateway needs no credential, and the app's own credentials reach the app.

use super::host::Headers;

use super::support::{
    DOMAIN, Gateway, KEY, MY_ENV, SESSION, SHOP, bearer, denial, forwarded, in_project, to,
};

#[test]
fn a_public_port_needs_no_credential() {
    let gateway = Gateway::new();
    let stream = gateway.send(to(8080, "shop"));
    assert_eq!(forwarded(&stream).upstream.as_deref(), Some("127.64.0.3:8080"));
    assert_eq!(stream.property("sandgate_principal"), None);
    assert_eq!(gateway.calls("POST /gateway/v1/credentials"), 0);
}

#[test]
fn an_apps_own_credentials_reach_it_unchanged_and_are_not_sent_to_the_control_plane() {
    let gateway = Gateway::new();
    for authorization in ["Bearer the-apps-own", "Basic dXNlcjpwYXNz", "Digest x=1, y=2", ""] {
        let headers = to(8080, "shop")
            .with("authorization", authorization)
            .with("cookie", "sid=1; theme=dark")
            .with("x-api-key", "app-key");
        let forwarded = gateway.passes(headers);
        assert_eq!(forwarded.headers.values("authorization"), [authorization]);
        assert_eq!(forwarded.headers.values("cookie"), ["sid=1; theme=dark"]);
        assert_eq!(forwarded.headers.values("x-api-key"), ["app-key"]);
    }
    assert_eq!(gateway.calls("POST /gateway/v1/credentials"), 0);
}

#[test]
fn an_invalid_or_expired_platform_credential_does_not_close_a_public_port() {
    let gateway = Gateway::new();
    gateway.passes(bearer(to(8080, "shop"), "tl_apiKey_wrong"));
    gateway.passes(bearer(to(8080, "shop"), "tl_pat_without_context"));
    gateway.passes(to(8080, "shop").with("cookie", "tl.session_token=expired"));
}

#[test]
fn platform_secrets_are_removed_on_public_ports_too() {
    let gateway = Gateway::new();
    let headers = in_project(bearer(to(8080, "shop"), KEY))
        .with("cookie", format!("a=1; tl.session_token={SESSION}; tl-session=x; b=2"))
        .with("x-sandgate-authorization", format!("Bearer {KEY}"));
    let forwarded = gateway.passes(headers);
    assert!(!forwarded.headers.mention(KEY), "{:?}", forwarded.headers);
    assert!(!forwarded.headers.mention(SESSION));
    assert!(!forwarded.headers.mention("tl-session"));
    assert_eq!(forwarded.headers.values("cookie"), ["a=1; b=2"]);
    assert!(!forwarded.headers.contains("x-forwarded-organization-id"), "no caller was verified");
    assert!(!forwarded.headers.contains("x-forwarded-project-id"));
}

#[test]
fn both_conditions_are_needed_to_make_a_port_public() {
    let gateway = Gateway::new();
    assert_eq!(gateway.denies(to(4444, "shop")), denial(401, "UNAUTHENTICATED"), "not exposed");
    assert_eq!(gateway.denies(to(8080, "my-env")), denial(401, "UNAUTHENTICATED"), "not public");
}

#[test]
fn the_management_port_is_never_public() {
    let gateway = Gateway::new();
    // Even if the control plane lists it.
    gateway.fleet().change(SHOP, |sandbox| sandbox.exposed_ports = vec![8080, 9501]);
    for host in
        [format!("shop.{DOMAIN}"), format!("9501-shop.{DOMAIN}"), format!("{SHOP}.{DOMAIN}")]
    {
        assert_eq!(gateway.denies(Headers::get(&host, "/")), denial(401, "UNAUTHENTICATED"));
    }
    let by_header = Headers::get(DOMAIN, "/").with("x-tensorlake-sandbox-id", "shop");
    assert_eq!(gateway.denies(by_header), denial(401, "UNAUTHENTICATED"));
}

#[test]
fn a_port_becomes_public_and_private_immediately() {
    let gateway = Gateway::new();
    assert_eq!(gateway.denies(to(8080, "my-env")).1, "UNAUTHENTICATED");
    gateway.fleet().change(MY_ENV, |sandbox| sandbox.allow_unauthenticated_access = true);
    gateway.host.run();
    gateway.passes(to(8080, "my-env"));
    gateway.fleet().change(MY_ENV, |sandbox| sandbox.allow_unauthenticated_access = false);
    gateway.host.run();
    assert_eq!(gateway.denies(to(8080, "my-env")).1, "UNAUTHENTICATED");
}
