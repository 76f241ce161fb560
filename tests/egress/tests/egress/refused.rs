//! Denials that no name can change: plain HTTP gets a 403 with the rule, everything else is reset. Both happen
//! immediately, and nothing gets out.

use std::net::IpAddr;

use anyhow::{Result, ensure};
use sandgate_egress_tests::{ClientHello, Rig, Sidecar, site};
use serde_json::{Value, json};

use crate::support::{is_immediate, refused_immediately, tests, with};

tests![
    plain_http_to_a_denied_address_gets_a_403_with_the_rule,
    a_denied_grpc_call_gets_the_status_permission_denied,
    all_other_protocols_are_reset,
];

/// Policies that name no domain, each with an address that it denies and the rule.
fn denials() -> [(Value, IpAddr, &'static str); 6] {
    let off = json!({ "allow_internet_access": false });
    let list = json!({ "allow_internet_access": false, "allow_out": ["203.0.113.10"] });
    let denied = json!({ "deny_out": ["203.0.113.20", "2001:db8:c::20"] });
    [
        (off.clone(), site::OK, "default deny"),
        (off, site::OK6, "default deny"),
        (list, site::OTHER, "default deny"),
        (denied.clone(), site::OTHER, "deny_out 203.0.113.20"),
        (denied, site::OTHER6, "deny_out 2001:db8:c::20"),
        (json!({}), site::METADATA, "guardrail"),
    ]
}

/// Sets a policy, if it is not in force yet.
fn put(sidecar: &Sidecar, in_force: &mut Value, policy: Value) -> Result<()> {
    if *in_force != policy {
        sidecar.set(&policy)?;
        *in_force = policy;
    }
    Ok(())
}

fn is_denied_with(rig: &Rig, address: IpAddr, port: u16, request: &[u8], rule: &str) -> Result<()> {
    let what = format!("{address} port {port}, {:?}", String::from_utf8_lossy(request));
    is_immediate(&what, || {
        let spent = rig.sandbox.tcp(address, port, request)?;
        let answer = spent.outcome.text().unwrap_or_default();
        let is_403 = answer.starts_with("HTTP/1.1 403 ") || answer.starts_with("HTTP/1.0 403 ");
        let names_it = answer.contains(r#""code":"EGRESS_DENIED""#) && answer.contains(rule);
        ensure!(is_403 && names_it, "{what}: {:?}", spent.outcome);
        Ok(spent.time)
    })
}

fn plain_http_to_a_denied_address_gets_a_403_with_the_rule() -> Result<()> {
    let (rig, sidecar) = with(json!({}))?;
    let mut in_force = json!({});
    for (policy, address, rule) in denials() {
        put(&sidecar, &mut in_force, policy)?;
        let capture = rig.capture()?;
        for port in [site::HTTP_PORT, 8080, 4444] {
            is_denied_with(&rig, address, port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", rule)?;
        }
        for request in [
            &b"GET / HTTP/1.0\r\n\r\n"[..],
            b"POST /upload HTTP/1.1\r\nHost: ok.test\r\nContent-Length: 5\r\n\r\nhello",
            b"GET http://ok.test/ HTTP/1.1\r\nHost: ok.test\r\n\r\n",
            b"CONNECT ok.test:443 HTTP/1.1\r\nHost: ok.test:443\r\n\r\n",
        ] {
            is_denied_with(&rig, address, site::HTTP_PORT, request, rule)?;
        }
        ensure!(capture.to(address).is_empty(), "{address} saw {:?}", capture.to(address));
    }
    Ok(())
}

/// Envoy makes a gRPC status out of the 403. The status OK would tell the client that the call has succeeded.
fn a_denied_grpc_call_gets_the_status_permission_denied() -> Result<()> {
    let (rig, _sidecar) = with(json!({ "allow_internet_access": false }))?;
    let request = b"POST /a.B/C HTTP/1.1\r\nHost: x\r\nContent-Type: application/grpc+proto\r\n\
        Content-Length: 0\r\n\r\n";
    let spent = rig.sandbox.tcp(site::OK, site::HTTP_PORT, request)?;
    let answer = spent.outcome.text().unwrap_or_default().to_ascii_lowercase();
    ensure!(answer.contains("\r\ngrpc-status: 7\r\n"), "{:?}", spent.outcome);
    Ok(())
}

fn all_other_protocols_are_reset() -> Result<()> {
    let (rig, sidecar) = with(json!({}))?;
    let hello = ClientHello::of("ok.test")?.records(1 << 14)?;
    let mut in_force = json!({});
    for (policy, address, _) in denials() {
        put(&sidecar, &mut in_force, policy)?;
        let capture = rig.capture()?;
        for (what, first) in [
            ("silence", &b""[..]),
            ("TLS", &hello),
            ("TLS on the port of HTTP", &hello),
            ("SSH", b"SSH-2.0-client\r\n"),
            ("half of a request", b"GET / HT"),
            ("binary", b"\0\x01\x02\x03"),
        ] {
            for port in [site::BANNER_PORT, site::HTTP_PORT, site::HTTPS_PORT] {
                let what = format!("{what} to {address} port {port}");
                refused_immediately(&what, || rig.sandbox.tcp(address, port, first))?;
            }
        }
        ensure!(capture.to(address).is_empty(), "{address} saw {:?}", capture.to(address));
    }
    Ok(())
}
