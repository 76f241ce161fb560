//! Forwarding headers: apps receive the client's address and scheme from the edge or from the operator's proxies, never
//! from the client.

use anyhow::{Context as _, Result};
use sandgate_e2e::{Protocol, Setup, run};
use serde_json::{Value, json};

use crate::support::received_headers;

/// Forwarding headers in every spelling.
const LIES: [(&str, &str); 14] = [
    ("x-forwarded-for", "192.0.2.66, 192.0.2.67"),
    ("x-forwarded-for", "127.0.0.9"),
    ("x_forwarded_for", "192.0.2.66"),
    ("x-forwarded-proto", "gopher"),
    ("x_forwarded_proto", "https"),
    ("x-forwarded-host", "evil.example"),
    ("x-forwarded-port", "1"),
    ("x-forwarded-prefix", "/evil"),
    ("x-forwarded-user", "root"),
    ("x-forwarded-client-cert", "Subject=root"),
    ("forwarded", "for=192.0.2.66;proto=https"),
    ("x-real-ip", "192.0.2.66"),
    ("true-client-ip", "192.0.2.66"),
    ("x-envoy-external-address", "192.0.2.66"),
];

#[test]
fn forwarding_headers_of_clients_are_not_forwarded() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.public_env().await?;
        for (edge, scheme) in [(stack.edge(), "http"), (stack.edge_tls(), "https")] {
            for protocol in [Protocol::Http1, Protocol::H2c] {
                let call = edge.get(&sandbox.host(8080), "/").over(protocol);
                let call = LIES.iter().fold(call, |call, (name, value)| call.header(name, value));
                let answer = call.send().await?.ok()?;
                assert_eq!(received_headers(&answer, "x-forwarded-for"), ["127.0.0.1"]);
                assert_eq!(received_headers(&answer, "x-forwarded-proto"), [scheme]);
                for (name, _) in LIES {
                    let is_ours = matches!(name, "x-forwarded-for" | "x-forwarded-proto");
                    assert!(
                        is_ours || received_headers(&answer, name).is_empty(),
                        "{name}: {answer}"
                    );
                }
            }
        }
        Ok(())
    });
}

#[test]
fn behind_one_trusted_proxy_only_its_own_forwarding_entry_counts() {
    run(Setup { trusted_hops: 1, ..Setup::default() }, async |stack| {
        let sandbox = stack.public_env().await?;
        let ask = async |forwarded_for: &str, proto: &str| -> Result<Value> {
            let call = stack.edge().get(&sandbox.host(8080), "/");
            let call = call.header("x-forwarded-for", forwarded_for);
            let call = call.header("x-forwarded-proto", proto).header("x-real-ip", "192.0.2.66");
            call.send().await?.ok()
        };
        // The client sent the first entry, and the proxy added the second one.
        let answer = ask("192.0.2.66, 203.0.113.9", "https").await?;
        assert_eq!(received_headers(&answer, "x-forwarded-for"), ["203.0.113.9"]);
        assert_eq!(received_headers(&answer, "x-forwarded-proto"), ["https"]);
        assert!(received_headers(&answer, "x-real-ip").is_empty());
        let answer = ask("2001:db8::9", "http").await?;
        assert_eq!(received_headers(&answer, "x-forwarded-for"), ["2001:db8::9"]);
        assert_eq!(received_headers(&answer, "x-forwarded-proto"), ["http"]);
        Ok(())
    });
}

const PROXY_PROTOCOL: &str =
    "type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol";

#[test]
fn the_client_address_comes_from_the_proxy_protocol_if_it_is_enabled() {
    let filters = json!([{
        "name": "envoy.filters.listener.proxy_protocol",
        "typed_config": { "@type": PROXY_PROTOCOL },
    }]);
    run(Setup { listener_filters: filters, ..Setup::default() }, async |stack| {
        let sandbox = stack.public_env().await?;
        let request = format!(
            "GET / HTTP/1.1\r\nhost: {}\r\nx-forwarded-for: 192.0.2.66\r\nconnection: close\r\n\r\n",
            sandbox.host(8080)
        );
        let through = format!("PROXY TCP4 203.0.113.7 198.51.100.1 5555 443\r\n{request}");
        let answer = stack.edge().raw(through.as_bytes()).await?;
        let answer = String::from_utf8(answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let start = body.find('{').context("no JSON")?;
        let end = body.rfind('}').context("no JSON")?;
        let body: Value = serde_json::from_str(body.get(start..=end).unwrap_or_default())?;
        assert_eq!(received_headers(&body, "x-forwarded-for"), ["203.0.113.7"]);
        // A client that bypasses the proxy is refused, because it could send any address.
        for edge in [stack.edge(), stack.edge_tls()] {
            // The connection is reset or closed.
            let answer = edge.raw(request.as_bytes()).await.unwrap_or_default();
            assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
        }
        Ok(())
    });
}

/// Without the listener filter, a PROXY header is invalid HTTP: it is ignored, and the request after it is not served.
#[test]
fn a_proxy_protocol_header_ends_the_connection_if_it_is_not_enabled() {
    /// The signature of version 2, and `PROXY` over TCP for IPv4 with the addresses and ports (HAProxy's
    /// proxy-protocol.txt, section 2.2).
    const V2: &[u8] =
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x07\xc6\x33\x64\x01\x15\xb3\x01\xbb";
    const V1: &[u8] = b"PROXY TCP4 203.0.113.7 198.51.100.1 5555 443\r\n";
    const V1_UNKNOWN: &[u8] = b"PROXY UNKNOWN\r\n";
    run(Setup::default(), async |stack| {
        let sandbox = stack.public_env().await?;
        let host = sandbox.host(8080);
        let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        // The request without the header is served, so the header is the only reason for the refusals below.
        let plain = stack.edge().raw(request.as_bytes()).await?;
        assert!(plain.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&plain));
        for header in [V1, V1_UNKNOWN, V2] {
            for edge in [stack.edge(), stack.edge_tls()] {
                let through = [header, request.as_bytes()].concat();
                // The connection is reset or closed, or the header is a bad request. On the TLS port it is an invalid
                // handshake, which causes an alert (RFC 8446, section 6).
                let answer = edge.raw(&through).await.unwrap_or_default();
                let text = String::from_utf8_lossy(&answer);
                let is_alert = answer.first() == Some(&21);
                let refused = answer.is_empty() || is_alert || text.starts_with("HTTP/1.1 400 ");
                assert!(refused && text.matches("HTTP/1.1").count() <= 1, "{header:?}: {text}");
                assert!(!text.contains("203.0.113.7"), "{header:?}: {text}");
            }
        }
        Ok(())
    });
}
