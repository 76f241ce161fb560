//! Header fields and trailers that the edge removes from requests and responses.

use http::{HeaderMap, HeaderValue};
use sandgate_e2e::{Protocol, Setup, run};

use crate::scripted::{PORT, PROTOCOLS, answer_once, listening, scripted};
use crate::support::{raw, raw_get};

/// Response headers that control proxies in front, in several spellings.
const STEERING: [&str; 16] = [
    "X-Envoy-Immediate-Health-Check-Fail",
    "x_envoy_degraded",
    "X-Accel-Redirect",
    "X-Accel-Buffering",
    "X.Accel.Redirect",
    "X-Sendfile",
    "X-SendFile2",
    "X-LIGHTTPD-send-file",
    "X-LIGHTTPD-send-tempfile",
    "X-Reproxy-URL",
    "X-LiteSpeed-Location",
    "X-LiteSpeed-Purge",
    "Surrogate-Control",
    "Endpoint-Load-Metrics-Bin",
    "Alt-Svc",
    "X-Sandgate-Decision",
];

/// Trailers that neither clients nor apps may send.
const NO_TRAILERS: [&str; 7] = [
    "X-Forwarded-For",
    "x_forwarded_proto",
    "Content-Length",
    "Transfer-Encoding",
    "Connection",
    "Set-Cookie",
    "Authorization",
];

fn that_steers_proxies(_: &str) -> String {
    let lines = |names: &[&str]| -> String {
        names.iter().map(|name| format!("{name}: steered\r\n")).collect()
    };
    format!(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nx-app: 1\r\ncache-control: no-cache\r\n\
         keep-alive: timeout=5\r\nproxy-connection: keep-alive\r\n\
         surrogate-key: a\r\n{}\r\n4\r\ndone\r\n0\r\nx-sum: 7\r\ndigest: sha-256=x\r\n{}\r\n",
        lines(&STEERING),
        lines(&NO_TRAILERS) + &lines(&STEERING)
    )
}

#[test]
fn headers_and_trailers_that_control_proxies_are_removed_from_responses() {
    run(Setup::default(), async |stack| {
        let sandbox = scripted(stack, that_steers_proxies).await?;
        let host = sandbox.host(PORT);
        let received =
            raw_get(stack, &host, "/", "te: trailers\r\nconnection: close, te\r\n").await?;
        assert!(received.starts_with("HTTP/1.1 200 "), "{received}");
        assert!(!received.contains("steered"), "{received}");
        for kept in ["x-app: 1", "cache-control: no-cache", "surrogate-key: a", "x-sum: 7"] {
            assert!(received.contains(kept), "{kept}: {received}");
        }
        let call = stack.edge_tls().get(&host, "/").over(Protocol::H2c).header("te", "trailers");
        let answer = call.send().await?;
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "done"));
        let steered = |headers: &HeaderMap| headers.values().any(|value| value == "steered");
        assert!(!steered(&answer.headers), "{answer:?}");
        assert!(!steered(&answer.trailers), "{answer:?}");
        assert_eq!(answer.header("x-app"), Some("1"));
        assert_eq!(answer.trailers.get("x-sum"), Some(&HeaderValue::from_static("7")));
        assert_eq!(answer.trailers.get("digest"), Some(&HeaderValue::from_static("sha-256=x")));
        Ok(())
    });
}

/// Forwarding headers that clients must not send, in spellings that a CGI-style server treats as equal.
const CLAIMS: [&str; 9] = [
    "x.forwarded.project.id",
    "x_forwarded-project.id",
    "x~forwarded~for",
    "x.sandgate.principal",
    "x!envoy!retry-on",
    "x-forwarded",
    "client-ip",
    "x-cluster-client-ip",
    "proxy",
];

#[test]
fn forwarding_headers_of_clients_are_removed_in_every_spelling() {
    run(Setup::default(), async |stack| {
        // The app responds with the request that it received, in a body that ends with the connection.
        let sandbox = scripted(stack, |head| format!("HTTP/1.0 200 OK\r\n\r\n{head}")).await?;
        let host = sandbox.host(PORT);
        for protocol in PROTOCOLS {
            let call = stack.edge().get(&host, "/").over(protocol).header("x.app", "mine");
            let call = CLAIMS.iter().fold(call, |call, name| call.header(name, "claimed"));
            let seen = call.send().await?.text();
            assert!(seen.contains("x.app: mine"), "{protocol:?}: {seen}");
            assert!(!seen.contains("claimed"), "{protocol:?}: {seen}");
        }
        Ok(())
    });
}

#[test]
fn request_trailers_cannot_replace_headers() {
    run(Setup::default(), async |stack| {
        let (sandbox, listener) = listening(stack).await?;
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_owned();
        let app = answer_once(listener, "x-last: 1\r\n", answer);
        let trailers: String =
            NO_TRAILERS.iter().chain(&CLAIMS).map(|name| format!("{name}: steered\r\n")).collect();
        let request = format!(
            "POST / HTTP/1.1\r\nhost: {}\r\nte: trailers\r\ntransfer-encoding: chunked\r\n\
             connection: close, te\r\n\r\n2\r\nhi\r\n0\r\ndigest: sha-256=x\r\n{trailers}x-last: 1\r\n\r\n",
            sandbox.host(PORT)
        );
        let received = raw(stack, &request).await?;
        assert!(received.starts_with("HTTP/1.1 200 "), "{received}");
        let seen = app.await??;
        assert!(!seen.contains("steered"), "{seen}");
        assert!(seen.contains("digest: sha-256=x"), "{seen}");
        Ok(())
    });
}
