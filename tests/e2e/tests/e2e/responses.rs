//! Responses of apps that must not be forwarded: invalid statuses, and upgrades that the client did not request.

use std::convert::Infallible;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use sandgate_demo::client::websocket::{self, OpenError};
use sandgate_e2e::{Setup, run};
use sandgate_stack::client::Answer;
use tokio::net::TcpListener;

use crate::scripted::{PORT, PROTOCOLS, listening, scripted};
use crate::support::{UNAVAILABLE, is_denial, raw_get, target_tls};

/// The path selects the status: the response to `/600` is `HTTP/1.1 600 Odd`.
fn with_the_status_of_the_path(head: &str) -> String {
    let path = head.split(' ').nth(1).unwrap_or_default();
    let status = path.trim_start_matches('/');
    let upgrade =
        if status == "101" { "upgrade: websocket\r\nconnection: upgrade\r\n" } else { "" };
    // Envoy itself refuses a content length in a response with a status below 200.
    let length = if status < "200" { "" } else { "content-length: 4\r\n" };
    format!("HTTP/1.1 {status} Odd\r\n{length}{upgrade}x-leak: 1\r\n\r\nleak")
}

/// Asserts that a response contains nothing of the app's response.
fn holds_nothing_of_the_app(answer: &Answer) {
    assert!(answer.header("x-leak").is_none(), "{:?}", answer.headers);
    assert!(!answer.text().contains("leak"), "{}", answer.text());
}

#[test]
fn a_status_that_is_not_final_becomes_a_502() {
    run(Setup::default(), async |stack| {
        let sandbox = scripted(stack, with_the_status_of_the_path).await?;
        let host = sandbox.host(PORT);
        for protocol in PROTOCOLS {
            for status in ["000", "099", "101", "600", "700", "999"] {
                let call = stack.edge().get(&host, &format!("/{status}")).over(protocol);
                let answer = call.send().await.with_context(|| status.to_owned())?;
                assert_eq!(answer.denial()?, "502 UPSTREAM_INVALID", "{status} {protocol:?}");
                holds_nothing_of_the_app(&answer);
            }
            for status in ["200", "299", "304", "418", "599"] {
                let call = stack.edge().get(&host, &format!("/{status}")).over(protocol);
                assert_eq!(call.send().await?.status.as_str(), status, "{protocol:?}");
            }
            // Statuses that Envoy itself refuses, or treats as informational.
            for status in ["99", "1000", "2x0", "", "102", "103", "199"] {
                let call = stack.edge().get(&host, &format!("/{status}")).over(protocol);
                let answer = call.send().await.with_context(|| status.to_owned())?;
                assert!(answer.denial()?.starts_with("502 UPSTREAM_"), "{status}: {answer:?}");
                holds_nothing_of_the_app(&answer);
            }
        }
        Ok(())
    });
}

#[test]
fn a_refused_response_is_a_grpc_status_for_grpc_clients() {
    run(Setup::default(), async |stack| {
        let (sandbox, listener) = listening(stack).await?;
        tokio::spawn(grpc_with_the_status_of_the_path(listener));
        let host = sandbox.host(PORT);
        for path in ["/600", "/999"] {
            let answer = stack.edge().post(&host, path).grpc().send().await?;
            assert_eq!(answer.status, 200, "{path}: {answer:?}");
            assert_eq!(answer.header("grpc-status"), Some(UNAVAILABLE), "{path}: {answer:?}");
            let message = answer.header("grpc-message").unwrap_or_default();
            assert!(message.starts_with("UPSTREAM_INVALID"), "{path}: {answer:?}");
            holds_nothing_of_the_app(&answer);
        }
        let answer = stack.edge().post(&host, "/200").grpc().send().await?;
        assert_eq!(answer.header("x-leak"), Some("1"), "{answer:?}");
        assert_eq!(answer.trailers.get("grpc-status"), Some(&HeaderValue::from_static("0")));
        Ok(())
    });
}

/// An HTTP/2 app whose responses end with trailers, some of which must be removed.
async fn grpc_with_the_status_of_the_path(listener: TcpListener) -> Result<()> {
    while let Ok((stream, _)) = listener.accept().await {
        let answer = |request: Request<Incoming>| async move {
            let status = request.uri().path().trim_start_matches('/').parse().unwrap_or(500);
            let mut trailers = HeaderMap::new();
            for name in ["x-accel-redirect", "x-forwarded-for", "cache-control", "set-cookie"] {
                trailers.insert(name, HeaderValue::from_static("1"));
            }
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            let body = Full::new(Bytes::from_static(b"leak"));
            let mut response = Response::new(body.with_trailers(async { Some(Ok(trailers)) }));
            *response.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
            response.headers_mut().insert("x-leak", HeaderValue::from_static("1"));
            Ok::<_, Infallible>(response)
        };
        let connection = http2::Builder::new(TokioExecutor::new());
        tokio::spawn(connection.serve_connection(TokioIo::new(stream), service_fn(answer)));
    }
    Ok(())
}

#[test]
fn a_refused_response_is_an_html_page_with_the_request_id_for_browsers() {
    run(Setup::default(), async |stack| {
        let sandbox = scripted(stack, with_the_status_of_the_path).await?;
        for protocol in PROTOCOLS {
            let call = stack.edge().get(&sandbox.host(PORT), "/600").over(protocol);
            let call = call.header("accept", "text/html").header("x-request-id", "id-of-a-client");
            let answer = call.send().await?;
            assert_eq!(answer.status, 502);
            let kind = answer.header("content-type").unwrap_or_default();
            assert!(kind.starts_with("text/html"), "{answer:?}");
            assert!(answer.text().contains("<code>id-of-a-client</code>"), "{}", answer.text());
            holds_nothing_of_the_app(&answer);
        }
        Ok(())
    });
}

const UPGRADE: &str = "upgrade: websocket\r\nsec-websocket-version: 13\r\n\
     sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

#[test]
fn only_a_websocket_upgrade_may_get_a_101() {
    run(Setup::default(), async |stack| {
        let sandbox = scripted(stack, with_the_status_of_the_path).await?;
        let host = sandbox.host(PORT);
        // No bytes of a tunnel are forwarded.
        for more in [
            "",
            // Not an upgrade, because `Connection` does not contain `upgrade`.
            UPGRADE,
            "connection: close\r\n",
        ] {
            let received = raw_get(stack, &host, "/101", more).await?;
            assert!(is_denial(&received, "502 UPSTREAM_INVALID"), "{more}: {received}");
            assert!(!received.contains("leak"), "{more}: {received}");
        }
        let upgrade = format!("connection: upgrade\r\n{UPGRADE}");
        let received = raw_get(stack, &host, "/101", &upgrade).await?;
        assert!(received.starts_with("HTTP/1.1 101 "), "{received}");
        assert!(received.ends_with("leak"), "{received}");
        // Envoy would lose the body of such a response.
        let received = raw_get(stack, &host, "/200", &upgrade).await?;
        assert!(is_denial(&received, "502 UPSTREAM_INVALID"), "{received}");
        let received = raw_get(stack, &host, "/418", &upgrade).await?;
        assert!(received.starts_with("HTTP/1.1 418 "), "{received}");
        Ok(())
    });
}

#[test]
fn a_101_that_names_another_protocol_is_refused() {
    run(Setup::default(), async |stack| {
        let other = |head: &str| -> String {
            let upgrade = if head.starts_with("GET /none ") { "" } else { "upgrade: h2c\r\n" };
            format!("HTTP/1.1 101 Odd\r\n{upgrade}connection: upgrade\r\n\r\nleak")
        };
        let sandbox = scripted(stack, other).await?;
        let host = sandbox.host(PORT);
        for path in ["/none", "/h2c"] {
            let upgrade = format!("connection: upgrade\r\n{UPGRADE}");
            let received = raw_get(stack, &host, path, &upgrade).await?;
            assert!(received.starts_with("HTTP/1.1 502 "), "{path}: {received}");
            assert!(!received.contains("leak"), "{path}: {received}");
            match websocket::open_over_http2(&target_tls(stack, &host, path)?).await {
                Err(OpenError::Refused { status, body, .. }) => {
                    assert_eq!(status.as_u16(), 502, "{path}: {body}");
                }
                Err(other) => return Err(other.into()),
                Ok(_) => anyhow::bail!("{path} opened a WebSocket"),
            }
        }
        Ok(())
    });
}

#[test]
fn grpc_trailers_are_filtered_and_keep_the_status() {
    run(Setup::default(), async |stack| {
        let (sandbox, listener) = listening(stack).await?;
        tokio::spawn(grpc_with_the_status_of_the_path(listener));
        let answer = stack.edge().post(&sandbox.host(PORT), "/200").grpc().send().await?;
        let names: Vec<&str> = answer.trailers.keys().map(http::HeaderName::as_str).collect();
        assert_eq!(names, ["grpc-status"]);
        Ok(())
    });
}
