//! The header fields that cross the gateway, in both directions, and those that are removed.

use sandgate_policy::header::fields;
use sandgate_policy::ingress::Caller;
use sandgate_policy::ingress::credential::Credential;
use sandgate_policy::ingress::head::Head;
use sandgate_policy::ingress::hygiene::{
    HeaderChange, clean_api_request, clean_request, clean_response,
};
use test_case::test_case;

use crate::ingress::support::{self, APP, KEY, PAT, Req, SESSION, config, id};
use crate::ingress::trailers_table;

/// Headers after changes were applied in order, as Envoy would.
pub(crate) fn apply(
    headers: &[(String, Vec<u8>)],
    changes: &[HeaderChange],
) -> Vec<(String, Vec<u8>)> {
    let mut result = headers.to_vec();
    for change in changes {
        match change {
            HeaderChange::Remove(name) => result.retain(|(n, _)| n != name),
            HeaderChange::Set(name, value) => {
                result.retain(|(n, _)| n != name);
                result.push(((*name).to_owned(), value.clone()));
            }
            HeaderChange::Add(name, value) => result.push(((*name).to_owned(), value.clone())),
        }
    }
    result
}

/// `name: value` of all but pseudo-headers.
pub(crate) fn text(headers: &[(String, Vec<u8>)]) -> Vec<String> {
    let shown = headers.iter().filter(|(name, _)| !name.starts_with(':'));
    shown.map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value))).collect()
}

/// What a sandbox receives on a public port.
fn public(request: &Req) -> Vec<String> {
    text(&apply(
        request.headers(),
        &clean_request(Head::new(&request.fields()), &config(), None, None),
    ))
}

/// What a sandbox receives from an authenticated caller.
fn private(request: &Req) -> Vec<String> {
    let used = Credential::extract(Head::new(&request.fields()), &config()).ok().flatten();
    let caller = Caller {
        principal: &id("key_1"),
        organization_id: &id("org_1"),
        project_id: &id("proj_1"),
        expires_at: None,
    };
    let changes =
        clean_request(Head::new(&request.fields()), &config(), used.as_ref(), Some(&caller));
    let mut received = text(&apply(request.headers(), &changes));
    for verified in ["x-forwarded-organization-id: org_1", "x-forwarded-project-id: proj_1"] {
        let at = received.iter().position(|line| line == verified);
        received.remove(at.expect("the verified context reaches the sandbox"));
    }
    received
}

fn get() -> Req {
    Req::get(APP)
}

const NOTHING: [&str; 0] = [];

#[test_case("authorization", "Bearer sk-app"; "a bearer of the app's own")]
#[test_case("authorization", "Basic YTpi"; "another scheme")]
#[test_case("authorization", "Digest username=\"u\", realm=\"tl\""; "a scheme with commas")]
#[test_case("authorization", ""; "an empty authorization")]
#[test_case("cookie", "lang=tl_PH; tl_PH"; "cookies with words that start like a secret")]
#[test_case("cookie", "tl_theme_of_the_app_is="; "a cookie without a value whose name starts like a secret")]
#[test_case("cookie", "a=1; session=2"; "cookies of the app's own")]
#[test_case("cookie", "a=1;  b=2 ;;"; "cookies, byte for byte")]
#[test_case("cookie", "tl_theme_of_the_app=dark; session=2"; "a cookie whose name starts like a secret")]
#[test_case("x-api-key", "sk-app-0123456789abcdef"; "an API key of the app's own")]
#[test_case("accept-language", "tl_PH, tl;q=0.9"; "a word that starts like a secret")]
#[test_case("x-forwarded-for", "203.0.113.9"; "the client's address, which Envoy has set")]
#[test_case("x-forwarded-proto", "https"; "whether it came by TLS, which Envoy has set")]
#[test_case("forward", "1"; "a name without a listed prefix")]
#[test_case("x-forwardedly", "1"; "another name without a listed prefix")]
#[test_case("x.app", "1"; "a name with a dot")]
#[test_case("x-client-ip-policy", "strict"; "a name that starts like a claimed address")]
#[test_case("proxy-features", "1"; "a name that starts like the one of httpoxy")]
#[test_case("x-original-url", "/a"; "a path that some apps read, and that no decision depends on")]
#[test_case("via", "1.1 proxy"; "the list of proxies on the way")]
#[test_case("traceparent", "00-00000000000000000000000000000001-0000000000000001-01"; "a trace")]
#[test_case("x-tensorlake-request-timeout-ms", "1000"; "the clients' time limit")]
#[test_case("x-request-id", "tl"; "the prefix cut short")]
#[test_case("x-binary", "\u{ff}\u{fe}"; "bytes outside of ASCII")]
fn fields_of_the_app_are_unchanged(name: &str, value: &str) {
    let request = get().and(name, value);
    assert_eq!(public(&request), [format!("{name}: {value}")]);
    let with_credential = get().and("x-sandgate-authorization", format!("Bearer {KEY}"));
    assert_eq!(private(&with_credential.and(name, value)), [format!("{name}: {value}")]);
}

#[test_case("authorization", format!("Bearer {KEY}"); "a key")]
#[test_case("authorization", format!("bearer   {PAT}"); "a token, scheme in lower case")]
#[test_case("authorization", "Bearer tl_x".into(); "a short one")]
#[test_case("authorization", format!("Token {KEY}"); "another scheme")]
#[test_case("authorization", format!("Token token=\"{KEY}\""); "another scheme with a parameter")]
#[test_case("authorization", KEY.into(); "no scheme")]
#[test_case("authorization", format!("Bearer sk-app, Bearer {KEY}"); "joined with the app's own")]
#[test_case("authorization", format!("Basic YTpi,{KEY}"); "joined with another scheme")]
#[test_case("authorization", format!("ApiKey:{KEY}"); "joined to a scheme by a colon")]
#[test_case("authorization", format!("Bearer '{KEY}'"); "in single quotes")]
#[test_case("proxy-authorization", format!("Bearer {KEY}"); "for a proxy")]
#[test_case("x-sandgate-authorization", format!("Bearer {KEY}"); "in the gateway's header")]
#[test_case("x-sandgate-authorization", "Bearer app".into(); "anything in the gateway's header")]
#[test_case("x_sandgate_authorization", "Bearer app".into(); "the gateway's header with underscores")]
#[test_case("x-api-key", KEY.into(); "as another API key")]
#[test_case("x-forwarded-authorization", format!("Bearer {KEY}"); "as a bearer in another header")]
#[test_case("x_api_key", format!("  {PAT} "); "with spaces around")]
#[test_case("cookie", format!("tl.session_token={SESSION}"); "the session cookie")]
#[test_case("cookie", format!("tl-session={SESSION}"); "the legacy session cookie")]
#[test_case("cookie", "tl-session".into(); "the session cookie's name alone")]
#[test_case("cookie", "=tl-session=x".into(); "the session cookie as the value of a nameless one")]
#[test_case("cookie", " = tl.session_token = x".into(); "the same with spaces")]
#[test_case("cookie", format!("token={KEY}"); "a key as another cookie")]
#[test_case("cookie", PAT.into(); "a token as a nameless cookie")]
#[test_case("cookie", format!("Bearer {KEY}"); "a bearer as a nameless cookie")]
#[test_case("x-tensorlake-sandbox-id", "a1b2c3d4e5f6g7h8i9j0k".into(); "the sandbox header")]
#[test_case("x-tensorlake-sandbox-port", "9501".into(); "any other sandbox header")]
#[test_case("x_tensorlake_sandbox_id", "x".into(); "the sandbox header with underscores")]
#[test_case("x-tensorlake_sandbox-id", "x".into(); "the sandbox header with both")]
#[test_case("x-tensorlake-route-hint", "h".into(); "the route hint")]
#[test_case("x-tensorlake_route_hint", "h".into(); "the route hint with underscores")]
#[test_case("x-sandgate-anything", "1".into(); "a header of the gateway's")]
#[test_case("x-envoy-original-dst-host", "127.0.0.1:22".into(); "a header that steers Envoy")]
#[test_case("x_envoy_upstream_rq_timeout_ms", "1".into(); "the same with underscores")]
#[test_case("x-forwarded-organization-id", "org_evil".into(); "a claimed organization")]
#[test_case("x-forwarded-project-id", "proj_evil".into(); "a claimed project")]
#[test_case("x_forwarded_project_id", "proj_evil".into(); "a claimed project with underscores")]
#[test_case("x_forwarded_for", "192.0.2.1".into(); "a claimed address, in a spelling that servers take for Envoy's")]
#[test_case("x-forwarded_proto", "https".into(); "a claimed scheme in such a spelling")]
#[test_case("x-forwarded-host", "evil.test".into(); "a claimed host")]
#[test_case("x-forwarded-port", "443".into(); "a claimed port")]
#[test_case("x-forwarded-prefix", "/evil".into(); "a claimed prefix of paths")]
#[test_case("x-forwarded-user", "root".into(); "a claimed user")]
#[test_case("x-forwarded-client-cert", "Subject=x".into(); "a claimed certificate")]
#[test_case("forwarded", "for=192.0.2.1;proto=https".into(); "RFC 7239")]
#[test_case("x-real-ip", "192.0.2.1".into(); "an address by another name")]
#[test_case("x_real_ip", "192.0.2.1".into(); "the same with underscores")]
#[test_case("x-client-ip", "192.0.2.1".into(); "an address by a third name")]
#[test_case("true-client-ip", "192.0.2.1".into(); "an address in the header of a delivery network")]
#[test_case("cf-connecting-ip", "192.0.2.1".into(); "an address in the header of another delivery network")]
#[test_case("client-ip", "192.0.2.1".into(); "an address in the header that PHP and Rails read")]
#[test_case("client_ip", "192.0.2.1".into(); "the same in another spelling")]
#[test_case("http-client-ip", "192.0.2.1".into(); "an address in the header that Java programs read")]
#[test_case("http_x_forwarded_for", "192.0.2.1".into(); "an address by the name of the CGI variable")]
#[test_case("wl-proxy-client-ip", "192.0.2.1".into(); "an address in the header that an application server reads")]
#[test_case("x-cluster-client-ip", "192.0.2.1".into(); "an address by a fourth name")]
#[test_case("x-original-forwarded-for", "192.0.2.1".into(); "an address that a proxy has moved")]
#[test_case("x-forwarded", "for=192.0.2.1".into(); "the older name of RFC 7239's header")]
#[test_case("forwarded-for", "192.0.2.1".into(); "another older name")]
#[test_case("forwarded-proto", "https".into(); "a scheme in an older header")]
#[test_case("x-scheme", "https".into(); "a scheme in the header that Tornado reads")]
#[test_case("front-end-https", "on".into(); "a scheme by an older name")]
#[test_case("client-cert", ":MII=:".into(); "a certificate, by RFC 9440")]
#[test_case("ssl-client-verify", "SUCCESS".into(); "a certificate as proxies vouch for it")]
#[test_case("proxy", "http://evil.test".into(); "httpoxy")]
#[test_case("x.forwarded.project.id", "proj_evil".into(); "a claimed project with dots")]
#[test_case("x-forwarded.project_id", "proj_evil".into(); "a claimed project with everything")]
#[test_case("x!forwarded#project$id", "proj_evil".into(); "a claimed project with marks")]
#[test_case("x%forwarded&project'id", "proj_evil".into(); "a claimed project with other marks")]
#[test_case("x*forwarded+project^id", "proj_evil".into(); "a claimed project with more marks")]
#[test_case("x`forwarded|project~id", "proj_evil".into(); "a claimed project with the remaining marks of a header name")]
#[test_case("x.forwarded.for", "192.0.2.1".into(); "a claimed address with dots")]
#[test_case("x.sandgate.principal", "admin".into(); "a header of the gateway's with dots")]
#[test_case("x.envoy.retry.on", "5xx".into(); "a header that steers Envoy, with dots")]
#[test_case("x~tensorlake~sandbox~id", "x".into(); "the sandbox header with tildes")]
fn secrets_and_internal_headers_are_removed(name: &str, value: String) {
    let request = get().and(name, &value);
    assert_eq!(public(&request), NOTHING);
    assert_eq!(private(&request), NOTHING);
    // Twice, and next to what is the app's own.
    let among_others = get().and("a", "1").and(name, &value).and(name, &value).and("b", "2");
    assert_eq!(public(&among_others), ["a: 1", "b: 2"]);
    assert_eq!(private(&among_others), ["a: 1", "b: 2"]);
}

#[test_case(format!("a=1; tl-session={SESSION}; b=2"), "a=1; b=2"; "in the middle")]
#[test_case(format!("tl-session={SESSION};a=1"), "a=1"; "in front")]
#[test_case(format!("a=1;tl.session_token={SESSION}"), "a=1"; "at the end")]
#[test_case("tl-session=1; tl-session=2; a=1; tl.session_token=3".into(), "a=1"; "several")]
#[test_case("a=\"x; tl-session=s\"; b=2".into(), "a=\"x; b=2"; "in quotes, which not all servers honour")]
#[test_case("a=1; tl-session; b".into(), "a=1; b"; "without a value, next to a nameless one")]
#[test_case("tl_theme_of_the_app=dark; tl-session=1".into(), "tl_theme_of_the_app=dark"; "next to one whose name starts like a secret")]
fn the_apps_own_cookies_stay(cookie: String, left: &str) {
    let request = get().and("cookie", &cookie);
    assert_eq!(public(&request), [format!("cookie: {left}")]);
    assert_eq!(private(&request.context()), [format!("cookie: {left}")]);
}

#[test]
fn several_cookie_headers_are_evaluated_as_one() {
    let request = get().and("cookie", "a=1").and("cookie", "tl-session=s").and("cookie", "b=2");
    assert_eq!(public(&request), ["cookie: a=1; b=2"]);
}

#[test]
fn the_used_credential_is_removed_even_without_a_prefix() {
    let secret = "key-without-a-prefix";
    assert_eq!(private(&get().bearer(secret)), NOTHING);
    // Wherever else the caller repeats it.
    let repeated = get()
        .bearer(secret)
        .and("cookie", format!("k={secret}"))
        .and("x-api-key", secret)
        .and("x-copy", format!("Bearer {secret}"));
    assert_eq!(private(&repeated), NOTHING);
    for copy in ["Bearer a2V5==", "a2V5==", "Token token=a2V5"] {
        let used = if copy.ends_with('=') { "Bearer a2V5==" } else { "Bearer a2V5" };
        let request = get().and("x-sandgate-authorization", used);
        let request = request.and("authorization", copy).and("proxy-authorization", copy);
        assert_eq!(private(&request), NOTHING, "{copy}");
    }
    // On a public port it is the app's.
    assert_eq!(public(&get().bearer(secret)), [format!("authorization: Bearer {secret}")]);
}

#[test]
fn the_gateways_header_leaves_the_apps_authorization_alone() {
    let request = get().and("x-sandgate-authorization", format!("Bearer {KEY}")).bearer("sk-app");
    assert_eq!(private(&request), ["authorization: Bearer sk-app"]);
    // A cookie leaves a bearer that is not the platform's alone too.
    assert_eq!(private(&get().session().bearer("sk-app")), ["authorization: Bearer sk-app"]);
    // But not one that is.
    let both = get().and("x-sandgate-authorization", format!("Bearer {KEY}")).bearer(PAT);
    assert_eq!(private(&both), NOTHING);
}

#[test]
fn host_and_path_are_never_touched() {
    let request = get().path("/a//b?token=tl_apiKey_0123456789abcdef&&x=%2F").session();
    let changes = clean_request(Head::new(&request.fields()), &config(), None, None);
    let received = apply(request.headers(), &changes);
    let pseudo = |headers: &[(String, Vec<u8>)]| -> Vec<(String, Vec<u8>)> {
        headers.iter().filter(|(name, _)| name.starts_with(':')).cloned().collect()
    };
    assert_eq!(pseudo(&received), pseudo(request.headers()));
}

#[test]
fn the_lifecycle_api_gets_credentials_and_context_but_no_internal_headers() {
    let request = get()
        .session()
        .bearer(KEY)
        .and("x-sandgate-authorization", "Bearer x")
        .and("x_sandgate_principal", "admin")
        .and("x-envoy-original-path", "/gateway/v1/sandboxes/x")
        .and("x_envoy_force_trace", "1")
        .and("x.sandgate.principal", "admin");
    let received =
        text(&apply(request.headers(), &clean_api_request(Head::new(&request.fields()))));
    assert_eq!(received.len(), 4, "{received:?}");
    assert!(received.contains(&format!("authorization: Bearer {KEY}")));
    assert!(received.contains(&format!("cookie: tl.session_token={SESSION}")));
    assert!(received.contains(&"x-forwarded-project-id: proj_1".to_owned()));
}

/// What a client receives of these headers of a sandbox.
fn answer(headers: &[(&str, &str)], authority: &str) -> Vec<String> {
    let headers: Vec<(String, Vec<u8>)> =
        headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    text(&apply(
        &headers,
        &clean_response(Head::new(&fields(&headers)), &support::authority(authority)),
    ))
}

#[test_case("a=1"; "a cookie of the host")]
#[test_case("a=1; Path=/; Secure; HttpOnly; SameSite=Lax"; "with attributes")]
#[test_case("a=tl-session"; "a value that is a platform name")]
#[test_case("tl-sessions=1"; "a name that starts like the platform's")]
#[test_case("TL-SESSION=1"; "a name in other case, which is another cookie to browsers")]
#[test_case("a="; "an empty value")]
#[test_case("a=b=c"; "an equals sign in the value")]
fn a_sandbox_may_set_its_own_cookies(cookie: &str) {
    assert_eq!(answer(&[("set-cookie", cookie)], APP), [format!("set-cookie: {cookie}")]);
}

#[test_case("tl.session_token=x"; "the session cookie")]
#[test_case("tl-session=x; Path=/"; "the legacy one")]
#[test_case(" tl-session = x"; "with spaces")]
#[test_case("tl-session"; "its name alone")]
#[test_case("=tl-session=x"; "as the value of a nameless one")]
#[test_case("tl-session=; Max-Age=0"; "to delete it")]
#[test_case("=x"; "a nameless cookie, which browsers send as its value")]
#[test_case("; Path=/"; "nothing")]
#[test_case(""; "an empty value")]
#[test_case("a=1; Domain=sandbox.example.com"; "for the parent domain")]
#[test_case("a=1; Domain=.sandbox.example.com"; "with a dot in front")]
#[test_case("a=1; domain=EXAMPLE.com"; "for a grandparent, in other case")]
#[test_case("a=1; Domain=com"; "for a top-level domain")]
#[test_case("a=1; Domain=3000-my-env.sandbox.example.com"; "for another host")]
#[test_case("a=1; DOMAIN = sandbox.example.com ; Path=/"; "with spaces")]
#[test_case("a=1; Domain=8080-my-env.sandbox.example.com; Domain=example.com"; "the last of two domains counts")]
#[test_case("a=1; Domain=; Domain=example.com"; "an empty domain, then another one")]
#[test_case("a=1; Domain=example.com; Domain="; "another domain, then an empty one")]
#[test_case("a=1; Domain=8080-my-env.sandbox.example.com:80"; "the own host with a port, which is no domain")]
#[test_case("a=1; Domain=..8080-my-env.sandbox.example.com"; "two dots in front")]
#[test_case("a=1; Domain=my-env.sandbox.example.com"; "the same sandbox's management host")]
#[test_case("a=1; Domain=\"sandbox.example.com\""; "in quotes")]
fn a_sandbox_may_not_set_cookies_of_the_platform_or_of_a_parent(cookie: &str) {
    assert_eq!(answer(&[("set-cookie", cookie)], APP), NOTHING);
    // The others stay, in order.
    let among_others =
        [("set-cookie", "a=1"), ("set-cookie", cookie), ("b", "2"), ("set-cookie", "c=3")];
    let received = answer(&among_others, APP);
    let cookies: Vec<&String> = received.iter().filter(|l| l.starts_with("set-cookie")).collect();
    assert_eq!(cookies, ["set-cookie: a=1", "set-cookie: c=3"]);
    assert!(received.contains(&"b: 2".to_owned()));
}

#[test_case("a=1; Domain=8080-my-env.sandbox.example.com; Path=/", "a=1; Path=/"; "the same host")]
#[test_case("a=1; Domain=; Secure", "a=1; Secure"; "an empty domain, which means the same")]
#[test_case("a=1;Domain=.8080-My-Env.Sandbox.Example.Com", "a=1"; "with a dot in front and in other case")]
fn the_domain_attribute_of_a_cookie_for_the_own_host_is_removed(cookie: &str, received: &str) {
    for authority in [APP.to_owned(), format!("{APP}:9443"), format!("{}.", APP.to_uppercase())] {
        let line = format!("set-cookie: {received}");
        assert_eq!(answer(&[("set-cookie", cookie)], &authority), [line]);
    }
}

#[test]
fn a_cookie_set_on_the_bare_domain_does_not_reach_other_sandboxes() {
    // The management API, reached through X-Tensorlake-Sandbox-Id: the host is a parent of all.
    let cookie = "a=1; Domain=sandbox.example.com; Secure";
    let received = answer(&[("set-cookie", cookie)], "sandbox.example.com");
    assert_eq!(received, ["set-cookie: a=1; Secure"]);
}

#[test]
fn a_sandbox_can_not_set_fields_of_the_gateway() {
    let headers = [
        ("x-sandgate-control-plane", "v1"),
        ("x_sandgate_decision", "permit"),
        ("x-sandgate-decision", "permit"),
        ("content-type", "text/plain"),
    ];
    assert_eq!(answer(&headers, APP), ["content-type: text/plain"]);
}

#[test]
fn a_response_without_forbidden_fields_is_unchanged() {
    let headers = [("set-cookie".to_owned(), b"a=1".to_vec()), ("x".to_owned(), b"\xff".to_vec())];
    assert_eq!(clean_response(Head::new(&fields(&headers)), &support::authority(APP)), []);
}

#[test_case("Upgrade", "Upgrade"; "an upgrade alone stays as it was sent")]
#[test_case("upgrade,", "upgrade,"; "an empty item")]
#[test_case("Upgrade, X-Forwarded-Project-Id", "Upgrade"; "a verified header can not be named in Connection")]
#[test_case("keep-alive, upgrade", "Upgrade"; "a header of this connection is not forwarded")]
fn the_connection_header_of_an_upgrade_names_only_the_upgrade(sent: &str, received: &str) {
    let request = get().and("upgrade", "websocket").and("connection", sent);
    let request = request.and("x-sandgate-authorization", format!("Bearer {KEY}"));
    let expected = ["upgrade: websocket".to_owned(), format!("connection: {received}")];
    assert_eq!(private(&request), expected);
}

#[test_case("x-envoy-immediate-health-check-fail"; "takes a cluster out of an Envoy's rotation")]
#[test_case("x_envoy_degraded"; "the same family with underscores")]
#[test_case("x-accel-redirect"; "makes nginx serve another location")]
#[test_case("x-accel-limit-rate"; "makes nginx slow down")]
#[test_case("x.accel.redirect"; "the same with dots")]
#[test_case("x-sendfile"; "makes a server send a file")]
#[test_case("x-sendfile2"; "the second form of that header")]
#[test_case("x-sendfile-temporary"; "the third form of that header")]
#[test_case("x-lighttpd-send-file"; "makes lighttpd send a file")]
#[test_case("x-lighttpd-send-tempfile"; "makes lighttpd send a file and delete it")]
#[test_case("x-reproxy-url"; "makes a proxy fetch a URL")]
#[test_case("x-reproxy-file"; "makes a proxy serve a file")]
#[test_case("x-litespeed-location"; "makes LiteSpeed serve another location")]
#[test_case("x-litespeed-purge"; "empties LiteSpeed's cache")]
#[test_case("surrogate-control"; "switches edge side includes on")]
#[test_case("edge-control"; "the same at another network")]
#[test_case("x-esi"; "the same at another proxy")]
#[test_case("x-appengine-blobkey"; "makes App Engine serve a blob")]
#[test_case("endpoint-load-metrics"; "changes weights of load balancing")]
#[test_case("endpoint-load-metrics-bin"; "the same in binary")]
#[test_case("alt-svc"; "redirects clients to another address")]
#[test_case("x-sandgate-decision"; "has the name of the gateway's headers")]
fn a_sandbox_can_not_control_proxies_in_front(name: &str) {
    assert_eq!(answer(&[("a", "1"), (name, "x"), (name, "y"), ("b", "2")], APP), ["a: 1", "b: 2"]);
    let trailers = [("a", "1"), (name, "x"), ("b", "2")];
    assert_eq!(trailers_table::response_trailers(&trailers), ["a: 1", "b: 2"]);
}

#[test_case("cache-control"; "how long it may be cached")]
#[test_case("cdn-cache-control"; "the same for delivery networks (RFC 9213)")]
#[test_case("surrogate-key"; "a label of a cache entry")]
#[test_case("refresh"; "another page, as the body may say too")]
#[test_case("location"; "a redirect")]
#[test_case("link"; "links")]
#[test_case("server-timing"; "timings")]
#[test_case("x-request-id"; "its own id")]
#[test_case("x-esign-id"; "a name that starts like a steering one")]
#[test_case("x-forwarded-for"; "a header that proxies read only in requests")]
#[test_case("strict-transport-security"; "its own host's security")]
fn response_fields_of_the_app_are_forwarded(name: &str) {
    assert_eq!(answer(&[(name, "x")], APP), [format!("{name}: x")]);
}
