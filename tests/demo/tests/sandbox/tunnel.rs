//! TCP tunnels of the management API: forwarded bytes, the order of closing, and refusals.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use sandgate_demo::client::Target;
use sandgate_demo::client::websocket::{self, Message, OpenError, Socket};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::support::{PATIENCE, ask, start};

/// A service on the sandbox's address, and a tunnel to it.
struct Tunnel {
    client: Socket,
    service: TcpStream,
}

async fn open() -> anyhow::Result<Tunnel> {
    let management = start().await?.management;
    let listener = TcpListener::bind((management.ip(), 0)).await?;
    let client = open_port(management, listener.local_addr()?.port()).await??;
    let (service, _) = timeout(PATIENCE, listener.accept()).await??;
    Ok(Tunnel { client, service })
}

/// Opens a tunnel. The inner result is the refusal if the sandbox refuses it.
async fn open_port(management: SocketAddr, port: u16) -> anyhow::Result<Result<Socket, OpenError>> {
    let url = format!("ws://my-env.sandbox.test/api/v1/tunnels/tcp?port={port}");
    let target = Target::new(&url)?.via(management.to_string());
    Ok(websocket::open(&target).await.map(|opened| opened.socket))
}

async fn next(client: &mut Socket) -> anyhow::Result<Message> {
    Ok(timeout(PATIENCE, client.next()).await?.context("the connection ended")??)
}

/// Reads all bytes up to the Close frame. Returns them and the code of the Close frame, which the
/// library answers.
async fn read_until_close(client: &mut Socket) -> anyhow::Result<(Vec<u8>, Option<u16>)> {
    let mut bytes = Vec::new();
    loop {
        match next(client).await? {
            Message::Binary(more) => bytes.extend_from_slice(&more),
            Message::Close(frame) => {
                anyhow::ensure!(timeout(PATIENCE, client.next()).await?.is_none(), "not the end");
                return Ok((bytes, frame.map(|frame| frame.code.into())));
            }
            other => anyhow::bail!("got {other:?}"),
        }
    }
}

async fn read_to_end(service: &mut TcpStream) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    timeout(PATIENCE, service.read_to_end(&mut bytes)).await??;
    Ok(bytes)
}

fn pattern(length: usize) -> Bytes {
    (0..=250_u8).cycle().take(length).collect()
}

#[tokio::test]
async fn ten_megabytes_arrive_unchanged_in_both_directions_at_once() -> anyhow::Result<()> {
    let Tunnel { client, service } = open().await?;
    let bytes = pattern(10 << 20);
    let (mut sending, mut receiving) = client.split();
    let (mut reading, mut writing) = service.into_split();
    let echo = tokio::spawn(async move { tokio::io::copy(&mut reading, &mut writing).await });
    let upload = async {
        // A chunk size that matches no buffer size.
        for chunk in bytes.chunks(12_345) {
            sending.send(Message::Binary(bytes.slice_ref(chunk))).await?;
        }
        anyhow::Ok(())
    };
    let download = async {
        let mut received = Vec::new();
        while received.len() < bytes.len() {
            received.extend(receiving.next().await.context("closed")??.into_data());
        }
        anyhow::Ok(received)
    };
    let ((), received) = timeout(PATIENCE, async { tokio::try_join!(upload, download) }).await??;
    // Not `assert_eq!`, which would print 10 MB.
    assert!(received == bytes, "the bytes changed");
    sending.close().await?;
    assert_eq!(timeout(PATIENCE, echo).await???, 10 << 20);
    Ok(())
}

#[tokio::test]
async fn the_end_of_the_service_is_a_close_frame_after_its_last_byte() -> anyhow::Result<()> {
    let Tunnel { mut client, mut service } = open().await?;
    let bytes = pattern(3 << 20);
    let sent = bytes.clone();
    let service = tokio::spawn(async move {
        service.write_all(&sent).await?;
        service.shutdown().await?;
        read_to_end(&mut service).await
    });
    let (received, code) = read_until_close(&mut client).await?;
    assert!(received == bytes, "{} of {} bytes", received.len(), bytes.len());
    assert_eq!(code, Some(1000));
    // The library has answered the Close frame, which ends the other direction.
    assert_eq!(timeout(PATIENCE, service).await???, b"");
    Ok(())
}

#[tokio::test]
async fn a_close_frame_of_the_client_ends_one_direction_and_the_response_still_arrives()
-> anyhow::Result<()> {
    let Tunnel { mut client, mut service } = open().await?;
    client.send(Message::binary(&b"quest"[..])).await?;
    client.send(Message::binary(&b"ion"[..])).await?;
    client.send(Message::Close(None)).await?;
    assert_eq!(read_to_end(&mut service).await?, b"question");
    let answer = pattern(3 << 20);
    let sent = answer.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        service.write_all(&sent).await
    });
    let (received, code) = read_until_close(&mut client).await?;
    assert!(received == answer, "{} of {} bytes", received.len(), answer.len());
    assert_eq!(code, Some(1000));
    Ok(())
}

#[tokio::test]
async fn a_text_message_is_an_error_for_both_sides() -> anyhow::Result<()> {
    let Tunnel { mut client, mut service } = open().await?;
    client.send(Message::binary(&b"bytes"[..])).await?;
    client.send(Message::text("text")).await?;
    assert_eq!(read_until_close(&mut client).await?, (Vec::new(), Some(1003)));
    let mut bytes = Vec::new();
    let error = timeout(PATIENCE, service.read_to_end(&mut bytes)).await?.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert!(b"bytes".starts_with(&bytes), "{bytes:?}");
    Ok(())
}

#[tokio::test]
async fn a_client_that_disconnects_causes_a_reset_and_no_fin() -> anyhow::Result<()> {
    let Tunnel { client, mut service } = open().await?;
    drop(client);
    let error = timeout(PATIENCE, service.read_u8()).await?.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    Ok(())
}

#[tokio::test]
async fn a_reset_by_the_service_is_an_error_for_the_client() -> anyhow::Result<()> {
    let Tunnel { mut client, service } = open().await?;
    service.set_zero_linger()?;
    drop(service);
    assert_eq!(read_until_close(&mut client).await?, (Vec::new(), Some(1011)));
    Ok(())
}

#[tokio::test]
async fn pings_are_answered() -> anyhow::Result<()> {
    let Tunnel { mut client, service } = open().await?;
    client.send(Message::Ping(Bytes::from_static(b"p"))).await?;
    assert_eq!(next(&mut client).await?, Message::Pong(Bytes::from_static(b"p")));
    drop(service);
    Ok(())
}

/// More than the socket buffers can hold (on Linux, at most 6 + 4 MB for each connection). A tunnel
/// without backpressure would take more.
const MAX_BUFFERED: usize = 40 << 20;
const OFFERED: usize = 100 << 20;
const STUCK: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_client_that_does_not_read_stops_the_service() -> anyhow::Result<()> {
    let Tunnel { mut client, mut service } = open().await?;
    let chunk = pattern(251 << 10);
    let mut written = 0;
    while let Ok(result) = timeout(STUCK, service.write(&chunk[written % 251..])).await {
        written += result?;
        anyhow::ensure!(written < MAX_BUFFERED, "it took {written} bytes that nobody reads");
    }
    drop(service);
    let (received, code) = read_until_close(&mut client).await?;
    assert_eq!((received.len(), code), (written, Some(1000)));
    assert!(received == pattern(written), "the bytes changed");
    Ok(())
}

#[tokio::test]
async fn a_service_that_does_not_read_stops_the_client() -> anyhow::Result<()> {
    let Tunnel { mut client, mut service } = open().await?;
    let chunk = pattern(64 << 10);
    let mut sent = 0;
    while sent < OFFERED {
        match timeout(STUCK, client.send(Message::Binary(chunk.clone()))).await {
            Ok(result) => result?,
            Err(_) => break,
        }
        sent += chunk.len();
    }
    assert!(sent < MAX_BUFFERED, "it took {sent} bytes that nobody reads");
    // The blocked message is sent when the service reads.
    tokio::spawn(async move { client.close(None).await });
    let received = read_to_end(&mut service).await?.len();
    assert!([sent, sent + chunk.len()].contains(&received), "{received} bytes of {sent}");
    Ok(())
}

#[tokio::test]
async fn a_closed_port_causes_a_502_that_names_it() -> anyhow::Result<()> {
    let management = start().await?.management;
    let free = TcpListener::bind((management.ip(), 0)).await?.local_addr()?;
    let Err(OpenError::Refused { status, body, .. }) = open_port(management, free.port()).await?
    else {
        anyhow::bail!("not refused");
    };
    assert_eq!(status, 502);
    assert!(body.contains(&format!("accepts connections at {free}")), "{body}");
    Ok(())
}

#[tokio::test]
async fn tunnels_lead_to_the_sandboxs_own_address_only() -> anyhow::Result<()> {
    let management = start().await?.management;
    let elsewhere = TcpListener::bind("127.77.0.3:0").await?;
    let port = elsewhere.local_addr()?.port();
    assert!(matches!(open_port(management, port).await?, Err(OpenError::Refused { .. })));
    Ok(())
}

#[tokio::test]
async fn wrong_requests_are_refused_in_json() -> anyhow::Result<()> {
    let management = start().await?.management;
    let path = "/api/v1/tunnels/tcp";
    for query in ["", "?port=", "?port=0", "?port=65536", "?port=http", "?port=1&port=2"] {
        let response = ask(management, &format!("GET {path}{query}")).await?;
        assert_eq!((response.status, &response.json()?["code"]), (400, &"BAD_REQUEST".into()));
    }
    let response = ask(management, &format!("GET {path}?port=8080")).await?;
    assert_eq!((response.status, response.header("upgrade")), (426, vec![&b"websocket"[..]]));
    let post = format!("POST {path}?port=8080\r\nContent-Length: 0");
    assert_eq!(ask(management, &post).await?.status, 405);
    Ok(())
}
