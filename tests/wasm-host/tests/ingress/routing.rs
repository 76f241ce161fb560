//! The bare domain, its API, the routing header, and several domains.

use super::host::Headers;

use super::support::{DOMAIN, Gateway, KEY, MY_ENV, bearer, denial, forwarded, to, with_key};

#[test]
fn requests_to_the_bare_domain_and_its_api_host_reach_the_lifecycle_api_with_their_credentials() {
    let gateway = Gateway::new();
    for host in [DOMAIN, "api.sandbox.localhost", "local", "SANDBOX.localhost:9443"] {
        let headers = bearer(Headers::request("POST", host, "/v1/namespaces/x/sandboxes"), KEY)
            .with("x-forwarded-organization-id", "org_1")
            .with("cookie", "tl.session_token=s");
        let stream = gateway.send(headers.clone());
        let forwarded = forwarded(&stream);
        assert_eq!(forwarded.upstream, None, "{host} goes by its route, and to no sandbox");
        assert_eq!(forwarded.headers, headers);
    }
    assert!(gateway.host.calls().is_empty());
}

#[test]
fn the_lifecycle_api_receives_no_internal_header_of_a_client() {
    let headers = Headers::get(DOMAIN, "/")
        .with("x-envoy-original-dst-host", "10.0.0.1:80")
        .with("x-sandgate-principal", "root")
        .with("x-mine", "1");
    let forwarded = Gateway::new().passes(headers);
    assert!(!forwarded.headers.contains("x-envoy-original-dst-host"));
    assert!(!forwarded.headers.contains("x-sandgate-principal"));
    assert!(forwarded.headers.contains("x-mine"));
}

#[test]
fn on_the_bare_domain_the_sandbox_header_routes_to_the_management_port() {
    let gateway = Gateway::new();
    for name in ["my-env", MY_ENV] {
        let headers = Headers::get(DOMAIN, "/info").with("x-tensorlake-sandbox-id", name);
        let forwarded = gateway.passes(bearer(headers, KEY));
        assert_eq!(forwarded.upstream.as_deref(), Some("127.64.0.2:9501"));
        assert!(!forwarded.headers.contains("x-tensorlake-sandbox-id"), "an internal header");
    }
    for bad in ["", "../x", "a b", "8080-my-env", "my-env,other", "MY-ENV"] {
        let headers = Headers::get(DOMAIN, "/").with("x-tensorlake-sandbox-id", bad);
        assert_eq!(gateway.denies(bearer(headers, KEY)), denial(400, "INVALID_REQUEST"), "{bad}");
    }
    let twice = Headers::get(DOMAIN, "/")
        .with("x-tensorlake-sandbox-id", "my-env")
        .with("x-tensorlake-sandbox-id", "my-env");
    assert_eq!(gateway.denies(bearer(twice, KEY)), denial(400, "INVALID_REQUEST"));
}

#[test]
fn on_a_sandbox_host_the_header_must_name_the_same_sandbox() {
    let gateway = Gateway::new();
    for name in ["my-env", MY_ENV] {
        gateway.passes(with_key(8080, "my-env").with("x-tensorlake-sandbox-id", name));
        gateway.passes(with_key(8080, MY_ENV).with("x-tensorlake-sandbox-id", name));
    }
    let other = with_key(8080, "my-env").with("x-tensorlake-sandbox-id", "shop");
    assert_eq!(gateway.denies(other), denial(400, "INVALID_REQUEST"));
}

#[test]
fn the_sandbox_header_is_checked_only_after_the_caller_is_authorized() {
    let gateway = Gateway::new();
    let anonymous = to(8080, "my-env").with("x-tensorlake-sandbox-id", "shop");
    assert_eq!(gateway.denies(anonymous), denial(401, "UNAUTHENTICATED"));
    let stranger = bearer(to(8080, "theirs"), KEY).with("x-tensorlake-sandbox-id", "shop");
    assert_eq!(gateway.denies(stranger), denial(404, "SANDBOX_NOT_FOUND"));
}

#[test]
fn all_domains_reach_the_same_sandboxes() {
    let gateway = Gateway::new();
    for domain in [DOMAIN, "local"] {
        let headers = Headers::get(&format!("8080-my-env.{domain}"), "/");
        let forwarded = gateway.passes(bearer(headers, KEY));
        assert_eq!(forwarded.upstream.as_deref(), Some("127.64.0.2:8080"));
    }
}

#[test]
fn path_query_and_host_are_forwarded_byte_for_byte() {
    let gateway = Gateway::new();
    let long = format!("/?q={}", "x".repeat(8_192));
    for path in ["/a%2Fb//c/../d", "/?a&&b=&=c", "/%00%ff", "*", "/;p=1?x#y", long.as_str()] {
        let host = "8080-My-Env.sandbox.localhost:9443";
        let forwarded = gateway.passes(bearer(Headers::get(host, path), KEY));
        assert_eq!(forwarded.headers.value(":path").as_deref(), Some(path));
        assert_eq!(forwarded.headers.value(":authority").as_deref(), Some(host));
    }
}
