//! The limits of headers, fields, cookies and streams, as ordinary clients and apps experience them.

use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::future::join_all;
use http::StatusCode;
use sandgate_e2e::{Protocol, Setup, Stack, run};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::frames::{Frames, Outcome};
use crate::scripted::{PORT, listening};
use crate::support::raw_get;

/// Starts an app without limits of its own, and returns its host. The app responds with the `x-…` fields and cookies
/// that it received, and with the header fields that the path requests: `/COUNT/BYTES`, of `BYTES` bytes each.
async fn app(stack: &Stack) -> Result<String> {
    let (sandbox, listener) = listening(stack).await?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    Ok(sandbox.host(PORT))
}

async fn serve(mut stream: TcpStream) -> Result<()> {
    let mut read = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let Some(end) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
            let length = stream.read(&mut buffer).await?;
            read.extend(buffer.get(..length).filter(|it| !it.is_empty()).context("the end")?);
            continue;
        };
        let head = String::from_utf8_lossy(&read.drain(..end + 4).collect::<Vec<_>>()).into_owned();
        let lines = |start: &str| head.lines().filter(|line| line.starts_with(start)).count();
        let cookies = head.lines().find_map(|line| line.strip_prefix("cookie: "));
        let body = json!({
            "fields": lines("x-field-"),
            "bytes": head.len(),
            "cookies": cookies.map_or(0, |cookies| cookies.split("; ").count()),
        })
        .to_string();
        let mut path = head.split(' ').nth(1).unwrap_or_default().split('/').skip(1);
        let mut number = || path.next().and_then(|part| part.parse::<usize>().ok()).unwrap_or(0);
        let (fields, bytes) = (number(), number());
        let mut answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n", body.len());
        for field in 0..fields {
            answer.push_str(&format!("x-field-{field}: {}\r\n", "v".repeat(bytes)));
        }
        answer.push_str(&format!("\r\n{body}"));
        stream.write_all(answer.as_bytes()).await?;
    }
}

/// Sends an HTTP/1.1 request, and returns the status line and the body.
async fn http1(
    stack: &Stack,
    host: &str,
    path: &str,
    fields: &[(&str, &str)],
) -> Result<(String, String)> {
    let lines: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let answer = raw_get(stack, host, path, &format!("connection: close\r\n{lines}")).await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no head")?;
    Ok((head.to_owned(), body.to_owned()))
}

/// `count` fields of `bytes` bytes each.
fn fields(count: usize, bytes: usize) -> Vec<(String, String)> {
    (0..count).map(|number| (format!("x-field-{number}"), "v".repeat(bytes))).collect()
}

fn borrowed(fields: &[(String, String)]) -> Vec<(&str, &str)> {
    fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

#[test]
fn a_response_may_have_many_header_fields() {
    run(Setup::default(), async |stack| {
        let host = app(stack).await?;
        for count in [101, 500, 950] {
            let (head, _) = http1(stack, &host, &format!("/{count}/1"), &[]).await?;
            assert!(head.starts_with("HTTP/1.1 200 "), "{count}: {head:.100}");
            assert_eq!(head.matches("x-field-").count(), count);
        }
        // 90 fields of 1,000 bytes are below the limit on the size of all fields.
        let (head, _) = http1(stack, &host, "/90/1000", &[]).await?;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head:.100}");
        // Too many fields, and fields that are too large together.
        for path in ["/1100/1", "/110/1000"] {
            let (head, body) = http1(stack, &host, path, &[]).await?;
            assert!(head.starts_with("HTTP/1.1 502 "), "{path}: {head:.100}");
            assert!(body.contains("UPSTREAM_INVALID"), "{path}: {body}");
        }
        Ok(())
    });
}

#[test]
fn all_cookies_of_a_browser_arrive_over_both_http_versions() {
    // No browser stores more cookies for one host.
    const COOKIES: usize = 180;
    run(Setup::default(), async |stack| {
        let host = app(stack).await?;
        let cookies: Vec<String> = (0..COOKIES).map(|number| format!("c{number}=v")).collect();
        // HTTP/2: each cookie is a field of its own (RFC 9113, section 8.2.3).
        let fields: Vec<_> = cookies.iter().map(|cookie| ("cookie", cookie.as_str())).collect();
        let mut connection = Frames::connect(stack.edge(), 65_535).await?;
        let id = connection.get(&host, "/", &fields).await?;
        let Outcome::Response(body) = connection.outcome(id).await? else {
            anyhow::bail!("no response by HTTP/2")
        };
        assert_eq!(serde_json::from_str::<Value>(&body)?["cookies"], COOKIES);
        let joined = cookies.join("; ");
        let (_, body) = http1(stack, &host, "/", &[("cookie", &joined)]).await?;
        assert_eq!(serde_json::from_str::<Value>(&body)?["cookies"], COOKIES);
        Ok(())
    });
}

/// HTTP/1.1 and HTTP/2 have the same limits and the same response.
#[test]
fn headers_beyond_the_limit_get_a_431() {
    const ANY: &str = "HEADERS_TOO_LARGE";
    run(Setup::default(), async |stack| {
        let host = app(stack).await?;
        // The number of fields, and the bytes of each.
        for (count, bytes, passes) in [
            (1, 60_000, true),
            (1, 90_000, true),
            (12, 7_900, true),
            (1, 100_000, false),
            (15, 7_900, false),
            (1, 125_000, false),
            (200, 1, true),
            (210, 1, false),
            (450, 1, false),
        ] {
            let what = format!("{count} fields of {bytes} bytes");
            let fields = fields(count, bytes);
            let (head, body) = http1(stack, &host, "/", &borrowed(&fields)).await?;
            let mut connection = Frames::connect(stack.edge(), 65_535).await?;
            let id = connection.get(&host, "/", &borrowed(&fields)).await?;
            let outcome = connection.outcome(id).await?;
            let Outcome::Response(body2) = outcome else {
                anyhow::bail!("{what} by HTTP/2: {outcome:?}")
            };
            if passes {
                assert!(head.starts_with("HTTP/1.1 200 "), "{what}: {head:.200}");
                for body in [body, body2] {
                    assert_eq!(serde_json::from_str::<Value>(&body)?["fields"], count, "{what}");
                }
            } else {
                assert!(head.starts_with("HTTP/1.1 431 "), "{what}: {head:.200}");
                assert!(head.contains("content-type: application/json"), "{what}: {head:.300}");
                for body in [body, body2] {
                    assert_eq!(serde_json::from_str::<Value>(&body)?["code"], ANY, "{what}");
                }
            }
        }
        assert_eq!(stack.envoy().stat("wasm.sandgate_ingress.vm_reload").await?, 0, "a VM trapped");
        Ok(())
    });
}

/// Far beyond the limit, Envoy's HTTP/2 parser itself refuses the headers, without a response.
#[test]
fn headers_far_beyond_the_limit_reset_only_their_own_stream() {
    run(Setup::default(), async |stack| {
        let host = app(stack).await?;
        let mut connection = Frames::connect(stack.edge(), 65_535).await?;
        for (count, bytes) in [(30, 7_900), (600, 1)] {
            let fields = fields(count, bytes);
            let refused = connection.get(&host, "/", &borrowed(&fields)).await?;
            assert_eq!(connection.outcome(refused).await?, Outcome::StreamReset, "{count}");
            let neighbour = connection.get(&host, "/", &[]).await?;
            let outcome = connection.outcome(neighbour).await?;
            assert!(matches!(outcome, Outcome::Response(_)), "{outcome:?}");
        }
        // Envoy's HTTP/1.1 parser sends a response.
        let (head, body) = http1(stack, &host, "/", &borrowed(&fields(600, 1))).await?;
        assert!(head.starts_with("HTTP/1.1 431 "), "{head:.200}");
        assert!(body.contains("HEADERS_TOO_LARGE"), "{body}");
        // The limit that docs/operations.md names: one field of more than 128 KiB.
        let field = "v".repeat(140_000);
        let refused = connection.get(&host, "/", &[("x-field-0", &field)]).await?;
        assert_eq!(connection.outcome(refused).await?, Outcome::ConnectionEnded);
        Ok(())
    });
}

/// A gRPC channel is one connection. Calls beyond its stream limit wait without an error.
#[test]
fn one_connection_can_carry_the_maximum_number_of_streams_of_a_sandbox() {
    const PLACES: usize = 300;
    // A tenth is reserved for the management port.
    const ALLOWED: usize = 270;
    run(
        Setup { limits: json!({ "requests_per_sandbox": PLACES }), ..Setup::default() },
        async |stack| {
            let sandbox = stack.my_env().await?;
            let connection = stack.edge().connect(Protocol::H2c).await?;
            let mut calls = Vec::new();
            for _ in 0..ALLOWED + 50 {
                let mut connection = connection.share()?;
                let call =
                    stack.edge().get(&sandbox.host(8080), "/events?count=0").bearer(stack.key());
                calls.push(async move { connection.open(call).await });
            }
            let all = tokio::time::timeout(Duration::from_secs(30), join_all(calls));
            let all = all.await.context("some wait in silence")?;
            let mut statuses = Vec::new();
            // Keeps the responses, because dropping one ends its stream.
            let mut open = Vec::new();
            for answer in all {
                let answer = answer?;
                statuses.push(answer.status());
                open.push(answer);
            }
            let count = |status| statuses.iter().filter(|it| **it == status).count();
            assert_eq!(count(StatusCode::OK), ALLOWED);
            assert_eq!(count(StatusCode::TOO_MANY_REQUESTS), 50);
            Ok(())
        },
    );
}
