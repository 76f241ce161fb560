//! The upstream of a plain HTTP request.

use sandgate_wasm_host::{Headers, Outcome};

use crate::support::{
    Egress, HTTP, OK, WILDCARD, allow_list, deny_list, destination_of, forwarded, refused,
};

#[test]
fn a_request_is_forwarded_to_the_allowed_address_or_name() {
    let egress = Egress::with(allow_list());
    for (destination, host, upstream) in [
        ("10.1.2.3:8080", "whatever.test", "10.1.2.3:8080"),
        ("[2001:db8::7]:80", "whatever.test", "[2001:db8::7]:80"),
        ("198.18.0.10:80", "ok.test", "ok.test:80"),
        ("198.18.0.10:8080", "OK.TEST.:9", "ok.test:8080"),
        ("198.18.0.2:80", "a.b.ok.test", "a.b.ok.test:80"),
        // The original destination does not matter.
        ("203.0.113.66:80", "ok.test", "ok.test:80"),
    ] {
        assert_eq!(forwarded(&egress.get(destination, host)), upstream, "{destination} {host}");
    }
    assert_eq!(egress.decisions("http.allow.allow_out"), 6);
}

#[test]
fn a_denied_request_gets_the_rule_in_the_reply() {
    let egress = Egress::with(allow_list());
    for (destination, host, rule) in [
        ("8.8.8.8:80", "bad.test", "default deny"),
        ("198.18.0.10:80", "bad.test", "default deny"),
        ("198.18.0.10:80", "8.8.8.8", "default deny"),
        ("198.18.0.10:80", "[::1]", "guardrail ::/96"),
        ("8.8.8.8:80", "10.1.2.3", "default deny"),
        ("198.18.0.10:80", "ok.test:99999", "Host not understood"),
        ("198.18.0.10:80", "ok.test,bad.test", "Host not understood"),
        ("198.18.0.10:80", "ok.test@bad.test", "Host not understood"),
        ("169.254.169.254:80", "ok.test", "guardrail 169.254.0.0/16"),
    ] {
        assert_eq!(refused(&egress.get(destination, host)), rule, "{destination} {host}");
    }
    let egress = Egress::with(deny_list());
    assert_eq!(refused(&egress.get("8.8.8.8:80", "bad.test")), "deny_out bad.test");
    assert_eq!(forwarded(&egress.get("8.8.8.8:80", "good.test")), "8.8.8.8:80");
    assert_eq!(egress.decisions("http.deny.deny_out"), 1);
}

#[test]
fn two_different_hosts_are_not_parsable() {
    let egress = Egress::with(allow_list());
    let destination = format!("{OK}:80");
    let differ = Headers::get("ok.test", "/").with("host", "bad.test");
    assert_eq!(refused(&egress.request(&destination, differ)), "Host not understood");
    let reversed = Headers::get("bad.test", "/").with("host", "ok.test");
    assert_eq!(refused(&egress.request(&destination, reversed)), "Host not understood");
    let agree = Headers::get("ok.test", "/").with("host", "ok.test");
    assert_eq!(forwarded(&egress.request(&destination, agree)), "ok.test:80");
}

#[test]
fn a_request_without_a_host_is_decided_by_its_address_and_gets_a_host() {
    let egress = Egress::with(allow_list());
    // The Host that Envoy is configured to add.
    let none = || Headers::get("no-host.invalid", "/");
    for (destination, host) in [
        ("198.18.0.10:80", "ok.test"),
        ("198.18.0.10:8080", "ok.test:8080"),
        ("10.1.2.3:80", "10.1.2.3"),
        ("[2001:db8::7]:81", "[2001:db8::7]:81"),
    ] {
        let request = egress.request(destination, none());
        let Outcome::Forwarded(forwarded) = request.outcome() else { panic!("{destination}") };
        assert_eq!(forwarded.headers.values(":authority"), [host]);
    }
    let wildcard = egress.request(&format!("{WILDCARD}:80"), none());
    assert_eq!(refused(&wildcard), "no name shown");
    assert_eq!(refused(&egress.request("8.8.8.8:80", none())), "default deny");
}

#[test]
fn a_request_with_a_host_is_forwarded_unchanged() {
    let egress = Egress::with(allow_list());
    let headers = Headers::request("POST", "ok.test", "/a/../b?c=%2F")
        .with("x-forwarded-for", "9.9.9.9")
        .with("authorization", "Bearer tl_apiKey_1")
        .with("x-twice", "1")
        .with("x-twice", "2");
    let request = egress.request(&format!("{OK}:80"), headers.clone());
    let Outcome::Forwarded(forwarded) = request.outcome() else { panic!("not forwarded") };
    assert_eq!(forwarded.headers, headers);
}

#[test]
fn connect_and_upgrade_requests_are_decided_like_any_request() {
    let egress = Egress::with(allow_list());
    let connect = |host: &str| {
        let headers = Headers::from([(":method", "CONNECT"), (":authority", host)]);
        egress.request(&format!("{OK}:3128"), headers)
    };
    assert_eq!(forwarded(&connect("ok.test:443")), "ok.test:3128");
    assert_eq!(refused(&connect("bad.test:443")), "default deny");
    let upgrade = Headers::get("bad.test", "/").with("connection", "upgrade");
    let upgrade = egress.request(&format!("{OK}:80"), upgrade.with("upgrade", "websocket"));
    assert_eq!(refused(&upgrade), "default deny");
}

#[test]
fn only_the_route_of_the_probe_gets_the_probes_reply() {
    let egress = Egress::with(allow_list());
    let request = egress.request(&format!("{OK}:80"), Headers::get("ok.test", "/generation"));
    assert_eq!(forwarded(&request), "ok.test:80");
    assert_eq!(egress.probe()["generation"], 1);
}

#[test]
fn a_request_line_that_servers_parse_differently_is_rejected() {
    let egress = Egress::with(allow_list());
    for (name, value) in [(":method", "FR@B"), (":method", ""), (":path", "/caf\u{e9}")] {
        let headers = Headers::get("ok.test", "/").without(name).with(name, value);
        let request = egress.request(&format!("{OK}:80"), headers);
        let Outcome::Replied(reply) = request.outcome() else { panic!("{:?}", request.outcome()) };
        assert_eq!(reply.status, 400, "{name}: {value}");
        assert!(reply.body.contains(r#""code":"INVALID_REQUEST""#), "{}", reply.body);
    }
}

/// Envoy would drop the body of a response that does not accept the handshake.
#[test]
fn a_websocket_handshake_is_hidden_from_envoy() {
    let egress = Egress::with(allow_list());
    for (protocol, upgrade, expected) in [
        ("HTTP/1.1", "websocket", " websocket"),
        ("HTTP/1.1", "WebSocket", " websocket"),
        ("HTTP/1.1", "tcp", "tcp"),
        // Envoy makes `:protocol` from this value.
        ("HTTP/2", "websocket", "websocket"),
    ] {
        let mut attributes = destination_of(&format!("{OK}:80"));
        attributes.insert("request.protocol".into(), protocol.into());
        let headers = Headers::get("ok.test", "/").with("upgrade", upgrade);
        let request = egress.host.request_of(HTTP, 0, headers, attributes);
        let Outcome::Forwarded(forwarded) = request.outcome() else {
            panic!("{:?}", request.outcome())
        };
        assert_eq!(forwarded.headers.values("upgrade"), [expected], "{protocol}");
    }
}
