//! Each response of Envoy itself that the table in `docs/operations.md` lists: its status and code, as JSON, as a page,
//! and as a gRPC status.

use std::net::TcpListener;
use std::time::Duration;

use anyhow::{Context as _, Result};
use http::Method;
use sandgate_e2e::{Answer, Protocol, Sandbox, Setup, Stack, Upstream, run};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::http_wire::Server;
use crate::support::{UNAVAILABLE, is_denial, public_ports, raw, replace_once, sandbox_address};

/// The port of the test's own server.
const SERVED: u16 = 3100;
/// A port without a listener.
const DEAD: u16 = 3101;

async fn sandbox(stack: &Stack) -> Result<Sandbox> {
    public_ports(stack, &[8080, SERVED, DEAD]).await
}

/// Serves the same bytes to each request, and returns the host of the port.
async fn serving(stack: &Stack, response: &[u8]) -> Result<String> {
    let sandbox = sandbox(stack).await?;
    let address = sandbox_address(stack, &sandbox).await?;
    Server::start(TcpListener::bind((address, SERVED))?, response.to_vec());
    Ok(sandbox.host(SERVED))
}

/// Asserts one row of the table in its three forms.
async fn assert_row(stack: &Stack, host: &str, path: &str, row: &str) -> Result<()> {
    let (status, code) = row.split_once(' ').context("not a row")?;
    for protocol in [Protocol::Http1, Protocol::H2c] {
        for method in [Method::GET, Method::POST] {
            let call = || stack.edge().request(method.clone(), host, path).over(protocol);
            let program = call().send().await?;
            assert_eq!(program.denial()?, row, "{method} {protocol:?}");
            let person = call().header("accept", "text/html,*/*;q=0.8").send().await?;
            assert_eq!(person.status.as_str(), status);
            let is_page = |answer: &Answer| {
                answer.header("content-type").is_some_and(|it| it.starts_with("text/html"))
                    && answer.text().contains("<h1>")
            };
            assert!(is_page(&person), "{person:?}");
        }
    }
    let grpc = stack.edge().post(host, path).grpc().send().await?;
    assert_eq!(grpc.header("grpc-status"), Some(UNAVAILABLE), "{grpc:?}");
    let message = grpc.header("grpc-message").unwrap_or_default();
    assert!(message.starts_with(&format!("{code}: ")), "{message}");
    Ok(())
}

#[test]
fn a_response_that_is_not_http_is_reported_as_invalid() {
    run(Setup::default(), async |stack| {
        let host = serving(stack, b"SSH-2.0-OpenSSH_9.9\r\n").await?;
        assert_row(stack, &host, "/", "502 UPSTREAM_INVALID").await
    });
}

#[test]
fn a_connection_that_breaks_before_the_response_is_reported_as_reset() {
    run(Setup::default(), async |stack| {
        let host = serving(stack, b"").await?;
        assert_row(stack, &host, "/", "502 UPSTREAM_RESET").await
    });
}

#[test]
fn a_sandbox_that_does_not_respond_causes_a_timeout() {
    let setup = Setup { stream_idle_timeout: Duration::from_secs(1), ..Setup::default() };
    run(setup, async |stack| {
        let sandbox = sandbox(stack).await?;
        assert_row(stack, &sandbox.host(8080), "/hang", "504 UPSTREAM_TIMEOUT").await
    });
}

#[test]
fn a_client_that_stops_in_the_middle_of_its_request_gets_a_408() {
    let change = |text: &str| {
        replace_once(text, "request_headers_timeout: 10s", "request_headers_timeout: 1s")
    };
    let setup = Setup { stream_idle_timeout: Duration::from_secs(1), change, ..Setup::default() };
    run(setup, async |stack| {
        let sandbox = sandbox(stack).await?;
        let host = sandbox.host(8080);
        for request in [
            format!("GET / HTTP/1.1\r\nhost: {host}\r\n"),
            format!("POST /upload HTTP/1.1\r\nhost: {host}\r\ncontent-length: 10\r\n\r\nx"),
        ] {
            let answer = raw(stack, &request).await?;
            assert!(is_denial(&answer, "408 REQUEST_TIMEOUT"), "{answer}");
        }
        Ok(())
    });
}

#[test]
fn a_closed_port_is_unreachable_for_every_kind_of_client() {
    run(Setup::default(), async |stack| {
        let sandbox = sandbox(stack).await?;
        assert_row(stack, &sandbox.host(DEAD), "/", "503 SANDBOX_UNREACHABLE").await
    });
}

/// Envoy buffers 32 KiB of a body for a retry. A larger body could cause a 507 of Envoy itself.
#[test]
fn a_request_with_a_body_to_a_closed_port_gets_the_same_response() {
    run(Setup::default(), async |stack| {
        let sandbox = sandbox(stack).await?;
        let host = sandbox.host(DEAD);
        for length in [1, 33_000, 70_000, 300_000, 3_000_000] {
            // The body may or may not arrive before the second attempt, so each length is tried several times.
            for _ in 0..5 {
                let answer = upload(stack, &host, length).await?;
                assert!(is_denial(&answer, "503 SANDBOX_UNREACHABLE"), "{length}: {answer}");
                let call =
                    stack.edge().post(&host, "/").over(Protocol::H2c).body(vec![b'x'; length]);
                assert_eq!(call.send().await?.denial()?, "503 SANDBOX_UNREACHABLE", "{length}");
                let call = stack.edge().post(&host, "/x").grpc().body(vec![0; length]);
                let answer = call.send().await?;
                assert_eq!(answer.header("grpc-status"), Some(UNAVAILABLE), "{length}: {answer:?}");
            }
        }
        Ok(())
    });
}

/// Sends a body and reads at the same time, as clients that detect an early response do.
async fn upload(stack: &Stack, host: &str, length: usize) -> Result<String> {
    let stream = TcpStream::connect(stack.edge().address()).await?;
    let (mut reader, mut writer) = stream.into_split();
    let head = format!("POST / HTTP/1.1\r\nhost: {host}\r\ncontent-length: {length}\r\n\r\n");
    let sending = tokio::spawn(async move {
        writer.write_all(head.as_bytes()).await?;
        writer.write_all(&vec![b'x'; length]).await?;
        // The connection stays open until the response has arrived.
        tokio::time::sleep(Duration::from_secs(10)).await;
        anyhow::Ok(())
    });
    let mut answer = Vec::new();
    let mut buffer = vec![0; 4096];
    while !answer.ends_with(b"}\n") {
        match reader.read(&mut buffer).await {
            Ok(read) if read > 0 => answer.extend(buffer.get(..read).unwrap_or_default()),
            _ => break,
        }
    }
    sending.abort();
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The request is permitted, but the DNS cache accepts no address, so there is no upstream.
#[test]
fn a_request_for_which_there_is_no_upstream_is_not_forwarded() {
    let change = |text: &str| {
        let guard = "- { address_prefix: \"${SANDGATE_SANDBOX_NETWORK}\", prefix_len: ${SANDGATE_SANDBOX_PREFIX_LEN} }";
        replace_once(text, guard, "- { address_prefix: 192.0.2.0, prefix_len: 24 }")
    };
    let upstream = Some(Upstream::DynamicForwardProxy);
    run(Setup { upstream, change, ..Setup::default() }, async |stack| {
        let sandbox = sandbox(stack).await?;
        let host = sandbox.host(8080);
        assert_row(stack, &host, "/health", "503 SANDBOX_UPSTREAM_ERROR").await?;
        let answer = stack.edge().get(&host, "/health").send().await?;
        assert_eq!(answer.header("retry-after"), Some("1"));
        Ok(())
    });
}

#[test]
fn connect_requests_are_invalid() {
    run(Setup::default(), async |stack| {
        let sandbox = sandbox(stack).await?;
        let request = format!("CONNECT {}:80 HTTP/1.1\r\nhost: x\r\n\r\n", sandbox.host(8080));
        let answer = raw(stack, &request).await?;
        assert!(is_denial(&answer, "400 INVALID_REQUEST"), "{answer}");
        Ok(())
    });
}

#[test]
fn the_docs_list_the_code_of_every_row() {
    let docs = include_str!("../../../../docs/operations.md");
    let edge = include_str!("../../../../envoy/edge.yaml");
    let is_code = |c: char| c.is_ascii_uppercase() || c == '_';
    let codes = edge.split("code: ").skip(1).map(|rest| rest.split(|c| !is_code(c)).next());
    let codes: Vec<&str> = codes.flatten().filter(|code| code.len() > 4).collect();
    assert!(codes.len() >= 8, "{codes:?}");
    for code in codes {
        assert!(docs.contains(&format!("`{code}`")), "docs/operations.md does not list `{code}`");
    }
}
