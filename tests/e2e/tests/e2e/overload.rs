//! Clients that use much memory or many connections do not affect other clients.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use sandgate_e2e::{Client, Protocol, Sandbox, Setup, Stack, run};
use sandgate_stack::wait::until;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};

use crate::frames::Frames;
use crate::http_frames;
use crate::support::{UNAVAILABLE, replace_once};

/// More than Envoy buffers for one stream.
const DOWNLOAD: &str = "/download?bytes=4000000";

/// The attacker's sandbox, and the sandbox of another user.
async fn two_sandboxes(stack: &Stack) -> Result<(Sandbox, Sandbox)> {
    let create = |name: &str| json!({ "name": name, "exposed_ports": [8080] });
    Ok((stack.sandbox(create("attacker")).await?, stack.sandbox(create("other")).await?))
}

/// Starts many downloads on HTTP/2 connections, and reads none.
async fn silent_streams(
    edge: Client,
    host: &str,
    key: &str,
    connections: usize,
    streams: usize,
) -> Result<Vec<Frames>> {
    let bearer = format!("Bearer {key}");
    let mut all = Vec::new();
    for _ in 0..connections {
        let mut connection = Frames::connect(edge, 0).await?;
        for _ in 0..streams {
            connection.get(host, DOWNLOAD, &[("authorization", &bearer)]).await?;
        }
        all.push(connection);
    }
    Ok(all)
}

/// Starts one download on each of many HTTP/1.1 connections, and reads none.
async fn silent_connections(
    edge: Client,
    host: &str,
    key: &str,
    connections: usize,
) -> Result<Vec<TcpStream>> {
    let request =
        format!("GET {DOWNLOAD} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {key}\r\n\r\n");
    let mut all = Vec::new();
    for _ in 0..connections {
        let socket = TcpSocket::new_v4()?;
        // A small receive buffer in the kernel, so that Envoy buffers the data.
        socket.set_recv_buffer_size(4096)?;
        let mut stream = socket.connect(edge.address()).await?;
        stream.write_all(request.as_bytes()).await?;
        all.push(stream);
    }
    Ok(all)
}

/// Reduces the timeout of idle streams under overload from 15 s to 1 s.
fn impatient(text: &str) -> String {
    let normal = "HTTP_DOWNSTREAM_STREAM_IDLE, min_timeout: 15s";
    replace_once(text, normal, "HTTP_DOWNSTREAM_STREAM_IDLE, min_timeout: 1s")
}

/// The bytes that Envoy has allocated.
async fn allocated(stack: &Stack) -> Result<u64> {
    stack.envoy().stat("^server.memory_allocated$").await
}

/// Waits until Envoy's memory no longer grows.
async fn settled(stack: &Stack) -> Result<u64> {
    let mut before = 0;
    until("memory settles", Duration::from_secs(60), async || {
        // Envoy updates the figure every five seconds.
        tokio::time::sleep(Duration::from_millis(5_500)).await;
        let now = allocated(stack).await?;
        let grows = now > before + (1 << 20);
        before = now;
        Ok((!grows).then_some(now))
    })
    .await
}

/// `--nocapture` shows the figures. `envoy/edge.yaml` states them next to its bounds.
#[test]
fn a_client_that_does_not_read_uses_a_bounded_amount_of_memory() {
    const STREAMS: usize = 100;
    const CONNECTIONS: usize = 100;
    run(Setup::default(), async |stack| {
        let sandbox = stack.my_env().await?;
        let host = sandbox.host(8080);
        let call = stack.edge().get(&host, "/").bearer(stack.key());
        call.send().await?.ok()?;
        let idle = settled(stack).await?;
        let streams = silent_streams(stack.edge(), &host, stack.key(), 1, STREAMS).await?;
        let of_streams = settled(stack).await?.saturating_sub(idle) >> 10;
        drop(streams);
        let idle = settled(stack).await?;
        let connections = silent_connections(stack.edge(), &host, stack.key(), CONNECTIONS).await?;
        let of_connections = settled(stack).await?.saturating_sub(idle) >> 10;
        drop(connections);
        let stream = of_streams / STREAMS as u64;
        let connection = of_connections / CONNECTIONS as u64;
        println!(
            "HTTP/2: {stream} KiB for each silent stream, {} KiB for a connection of {STREAMS}; \
             HTTP/1.1: {connection} KiB for each silent connection",
            of_streams
        );
        assert!((100..450).contains(&stream), "{stream} KiB for each stream");
        assert!((30..200).contains(&connection), "{connection} KiB for each connection");
        Ok(())
    });
}

/// Returns true if a request of another user is served, within some seconds because the machine may be busy.
async fn is_served(stack: &Stack, sandbox: &Sandbox, protocol: Protocol) -> Result<bool> {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(10) {
        let call = stack.edge().get(&sandbox.host(8080), "/health").over(protocol);
        let answer = call.bearer(stack.key()).send();
        match tokio::time::timeout(Duration::from_secs(5), answer).await {
            Ok(Ok(answer)) if answer.status == 200 => return Ok(true),
            Ok(Ok(answer)) => ensure!(!answer.text().contains("OVERLOADED"), "refused"),
            Ok(Err(_)) | Err(_) => {}
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(false)
}

/// Sends requests of another user until the attack is `over`. All must be served.
async fn others_are_served(
    stack: &Stack,
    sandbox: &Sandbox,
    mut over: impl AsyncFnMut() -> Result<bool>,
) -> Result<u32> {
    let begun = Instant::now();
    let mut served = 0;
    while !over().await? {
        ensure!(begun.elapsed() < Duration::from_secs(90), "the attack does not end");
        for protocol in [Protocol::Http1, Protocol::H2c] {
            ensure!(is_served(stack, sandbox, protocol).await?, "not served: {protocol:?}");
            served += 1;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(served)
}

#[test]
fn unread_streams_are_reset_before_other_clients_are_affected() {
    const HEAP: u64 = 192 << 20;
    let limits = json!({ "requests_per_sandbox": 10_000, "waiters": 10_000 });
    run(Setup { heap: HEAP, limits, ..Setup::default() }, async |stack| {
        let (attacker, other) = two_sandboxes(stack).await?;
        // Together they would hold 264 MB.
        let host = attacker.host(8080);
        let streams = silent_streams(stack.edge(), &host, stack.key(), 4, 200).await?;
        let begun = Instant::now();
        let served = others_are_served(stack, &other, async || {
            let reset = stack.envoy().stat("reset_high_memory_stream.count").await?;
            Ok(reset >= 200 && begun.elapsed() > Duration::from_secs(3))
        })
        .await?;
        assert!(served >= 4, "{served}");
        assert_eq!(stack.envoy().stat("downstream_rq_overload_close").await?, 0, "refused");
        let heap = stack.envoy().stat("^server.memory_heap_size$").await?;
        assert!(heap < HEAP, "{heap} bytes");
        drop(streams);
        until("the edge recovers", Duration::from_secs(15), async || {
            let pressure = stack.envoy().stat("fixed_heap.pressure").await?;
            Ok((pressure < 50).then_some(()))
        })
        .await
    });
}

/// Envoy can't select these for a reset by their size, so a timeout ends them.
#[test]
fn unread_connections_are_closed_when_memory_is_short() {
    let limits = json!({ "requests_per_sandbox": 10_000, "waiters": 10_000 });
    run(Setup { heap: 96 << 20, limits, change: impatient, ..Setup::default() }, async |stack| {
        let (attacker, other) = two_sandboxes(stack).await?;
        let host = attacker.host(8080);
        let _silent = silent_connections(stack.edge(), &host, stack.key(), 1_600).await?;
        until("they are ended", Duration::from_secs(90), async || {
            let ended = stack.envoy().stat("http.edge.downstream_rq_idle_timeout").await?;
            Ok((ended > 100).then_some(()))
        })
        .await?;
        until("others are served again", Duration::from_secs(60), async || {
            Ok(is_served(stack, &other, Protocol::Http1).await?.then_some(()))
        })
        .await
    });
}

/// The state in which an attacker leaves a connection idle.
#[derive(Clone, Copy)]
enum Idle {
    Untouched,
    AfterRequest,
    Http2,
    /// The app never responds.
    Waiting,
}

async fn idle(stack: &Stack, sandbox: &Sandbox, manner: Idle) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(stack.edge().address()).await?;
    match manner {
        Idle::Untouched => {}
        Idle::AfterRequest => stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await?,
        Idle::Http2 => stream.write_all(&http_frames::start(&[])).await?,
        Idle::Waiting => {
            let (host, key) = (sandbox.host(8080), stack.key());
            let request = format!(
                "GET /hang HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {key}\r\n\r\n"
            );
            stream.write_all(request.as_bytes()).await?;
        }
    }
    Ok(stream)
}

#[test]
fn idle_connections_are_closed_to_make_room_for_new_ones() {
    const CONNECTIONS: u32 = 60;
    run(Setup { connections: CONNECTIONS, change: impatient, ..Setup::default() }, async |stack| {
        let sandbox = stack.my_env().await?;
        for manner in [Idle::Untouched, Idle::AfterRequest, Idle::Http2, Idle::Waiting] {
            let mut held = Vec::new();
            for _ in 0..CONNECTIONS * 3 / 2 {
                held.push(idle(stack, &sandbox, manner).await?);
            }
            // The admin interface responds although hardly any connection is left.
            until("they are there", Duration::from_secs(5), async || {
                let active = stack.envoy().stat("http.edge.downstream_cx_active").await?;
                // Envoy closes connections after their responses when 90 % are taken, which may be at once.
                let is_closed_early = matches!(manner, Idle::AfterRequest);
                let is_full = active >= u64::from(CONNECTIONS) * 8 / 10;
                Ok((is_full || is_closed_early).then_some(()))
            })
            .await?;
            until("a new client is served", Duration::from_secs(60), async || {
                Ok(is_served(stack, &sandbox, Protocol::Http1).await?.then_some(()))
            })
            .await?;
            drop(held);
            // Otherwise the connections of the next manner could be refused because of these.
            until("they are gone", Duration::from_secs(10), async || {
                let active = stack.envoy().stat("http.edge.downstream_cx_active").await?;
                Ok((active < u64::from(CONNECTIONS) / 10).then_some(()))
            })
            .await?;
        }
        Ok(())
    });
}

#[test]
fn an_overloaded_edge_responds_with_the_denial_overloaded() {
    // The edge is overloaded from its start, because it refuses requests above 0.1 % of its heap.
    let change = |text: &str| {
        let normal = "fixed_heap, threshold: { value: 0.90 }";
        replace_once(text, normal, "fixed_heap, threshold: { value: 0.001 }")
    };
    run(Setup { change, ..Setup::default() }, async |stack| {
        until("the heap is measured", Duration::from_secs(10), async || {
            let active = stack.envoy().stat("stop_accepting_requests.active").await?;
            Ok((active == 1).then_some(()))
        })
        .await?;
        for protocol in [Protocol::Http1, Protocol::H2c] {
            let call = stack.edge().get("8080-any.sandbox.localhost", "/").over(protocol);
            let answer = call.send().await?;
            assert_eq!(answer.denial()?, "503 OVERLOADED");
            assert_eq!(answer.header("retry-after"), Some("1"));
        }
        let call = stack.edge().post("8080-any.sandbox.localhost", "/a.B/C").grpc();
        assert_eq!(call.send().await?.header("grpc-status"), Some(UNAVAILABLE));
        Ok(())
    });
}
