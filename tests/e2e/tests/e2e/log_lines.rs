//! The size of the access log is bounded, whatever clients send.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use sandgate_e2e::{Protocol, Setup, run};
use sandgate_stack::wait::until;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::replace_once;

/// The maximum length of a line of the access log.
const LONGEST: usize = 4_096;

#[test]
fn long_names_are_truncated_in_the_access_log() {
    run(Setup::default(), async |stack| {
        let long = "x".repeat(50_000);
        // Bytes for which JSON needs six characters.
        let odd = "\u{7f}\"\\".repeat(12_000);
        let host = "8080-any.sandbox.localhost";
        for request in [
            format!("GET / HTTP/1.1\r\nhost: {long}\r\n\r\n"),
            format!("GET /{long} HTTP/1.1\r\nhost: {host}\r\n\r\n"),
            format!("GET /{odd} HTTP/1.1\r\nhost: {host}\r\n\r\n"),
            format!("GET /?{long} HTTP/1.1\r\nhost: {host}\r\n\r\n"),
            format!("GET http://{long}/{long} HTTP/1.1\r\nhost: {host}\r\n\r\n"),
            format!("{long} / HTTP/1.1\r\nhost: {host}\r\n\r\n"),
            format!("GET / HTTP/1.1\r\nhost: {host}\r\nx-request-id: {long}\r\n\r\n"),
            format!("GET / HTTP/1.1\r\nhost: {host}\r\nx-request-id: {odd}\r\n\r\n"),
            format!("GET / HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {long}\r\n\r\n"),
            format!("GET / HTTP/1.1\r\nhost: {host}\r\nx-forwarded-for: {long}\r\n\r\n"),
            format!("GET / HTTP/1.1\r\nhost: {host}\r\nx-tensorlake-sandbox-id: {long}\r\n\r\n"),
            format!(
                "GET / HTTP/1.1\r\nhost: sandbox.localhost\r\nx-tensorlake-sandbox-id: {long}\r\n\r\n"
            ),
            format!("GET /v1/{long} HTTP/1.1\r\nhost: api.localhost\r\n\r\n"),
        ] {
            let mut stream = TcpStream::connect(stack.edge().address()).await?;
            stream.write_all(request.as_bytes()).await?;
            let mut answer = [0; 64];
            let _ = stream.read(&mut answer).await;
        }
        stack.edge().get(host, "/last").send().await?;
        let output = until("the last line", Duration::from_secs(5), async || {
            let output = stack.envoy().output().await;
            Ok(output.contains("/last").then_some(output))
        })
        .await?;
        assert!(output.contains("xxxxxxxx"), "no name was logged, so this shows nothing");
        // The lines of the access log, of Envoy, of the filter and of the control plane.
        let written = output + &stack.control_plane.output();
        let longest = written.lines().max_by_key(|line| line.len()).unwrap_or_default();
        assert!(longest.len() < LONGEST, "a line of {} bytes: {longest:.300}", longest.len());
        Ok(())
    });
}

#[test]
fn a_flood_of_requests_causes_a_bounded_number_of_log_lines() {
    const FLOOD: u64 = 1_000;
    const BURST: u64 = 50;
    const SECOND: u64 = 10;
    // A smaller rate than the default, so that a slow machine can exceed it.
    let change_log = |text: &str| {
        let text = replace_once(text, "max_tokens: 5000", "max_tokens: 50");
        replace_once(&text, "tokens_per_fill: 100", "tokens_per_fill: 1")
    };
    run(Setup { change_log, ..Setup::default() }, async |stack| {
        let begun = Instant::now();
        let connection = stack.edge().connect(Protocol::H2c).await?;
        for _ in 0..FLOOD / 100 {
            let mut batch = Vec::new();
            for _ in 0..100 {
                let mut connection = connection.share()?;
                let call = stack.edge().get("8080-any.sandbox.localhost", "/flood");
                batch.push(async move { connection.send(call).await });
            }
            for answer in join_all(batch).await {
                assert_eq!(answer?.status, 401);
            }
        }
        let most = BURST + SECOND * (begun.elapsed().as_secs() + 1);
        let (told, left_out) =
            until("each is told or counted", Duration::from_secs(5), async || {
                let output = stack.envoy().output().await;
                let lines =
                    output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
                let told = lines.filter(|line| line["path"] == "/flood").count() as u64;
                let left_out = stack.envoy().stat("access_log.process_ratelimit.denied").await?;
                Ok((told + left_out == FLOOD).then_some((told, left_out)))
            })
            .await?;
        assert!(told >= BURST && told <= most, "{told} lines, expected at most {most}");
        assert!(left_out > 0);
        Ok(())
    });
}
