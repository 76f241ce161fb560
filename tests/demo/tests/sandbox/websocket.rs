//! The WebSocket echo, and the crate's client.

use std::net::SocketAddr;

use anyhow::Context;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use sandgate_demo::client::Target;
use sandgate_demo::client::websocket::{self, Message, OpenError, Socket};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::{ID, PATIENCE, ask, start};

fn target(address: SocketAddr, path: &str) -> anyhow::Result<Target> {
    let url = format!("ws://3000-my-env.sandbox.test:9443{path}");
    Ok(Target::new(&url)?.via(address.to_string()))
}

async fn open() -> anyhow::Result<Socket> {
    let address = start().await?.websocket;
    Ok(websocket::open(&target(address, "/socket?q=1")?.header("X-A", "1")?.header("X-A", "2")?)
        .await?
        .socket)
}

async fn next(socket: &mut Socket) -> anyhow::Result<Message> {
    Ok(tokio::time::timeout(PATIENCE, socket.next()).await?.context("closed")??)
}

#[tokio::test]
async fn text_and_binary_messages_are_echoed_unchanged() -> anyhow::Result<()> {
    let mut socket = open().await?;
    for message in [Message::text("héllo"), Message::text(""), Message::binary(&b"\0\xff"[..])] {
        socket.send(message.clone()).await?;
        assert_eq!(next(&mut socket).await?, message);
    }
    Ok(())
}

#[tokio::test]
async fn messages_of_17_million_bytes_are_echoed() -> anyhow::Result<()> {
    let mut socket = open().await?;
    let bytes: Bytes = (0..=250_u8).cycle().take(17 << 20).collect();
    socket.send(Message::Binary(bytes.clone())).await?;
    // Not `assert_eq!`, which would print 17 MB.
    assert!(next(&mut socket).await? == Message::Binary(bytes), "the message changed");
    Ok(())
}

#[tokio::test]
async fn pings_are_answered() -> anyhow::Result<()> {
    let mut socket = open().await?;
    socket.send(Message::Ping(Bytes::from_static(b"p"))).await?;
    assert_eq!(next(&mut socket).await?, Message::Pong(Bytes::from_static(b"p")));
    Ok(())
}

#[tokio::test]
async fn a_command_returns_the_upgrade_request() -> anyhow::Result<()> {
    let mut socket = open().await?;
    socket.send(Message::text("headers?")).await?;
    let answer: Value = serde_json::from_str(next(&mut socket).await?.to_text()?)?;
    assert_eq!(answer["sandbox"]["id"], ID);
    assert_eq!(answer["target"], "/socket?q=1");
    assert_eq!(answer["host"], "3000-my-env.sandbox.test:9443");
    let headers = answer["headers"].as_array().context("headers")?;
    let ours: Vec<_> = headers.iter().filter(|header| header[0] == "x-a").collect();
    assert_eq!(ours, [&json!(["x-a", "1"]), &json!(["x-a", "2"])]);
    Ok(())
}

#[tokio::test]
async fn a_close_is_answered_with_a_close() -> anyhow::Result<()> {
    let mut socket = open().await?;
    socket.close(None).await?;
    assert!(matches!(next(&mut socket).await?, Message::Close(_)));
    assert!(socket.next().await.is_none());
    Ok(())
}

#[tokio::test]
async fn the_first_offered_subprotocol_is_chosen() -> anyhow::Result<()> {
    let address = start().await?.websocket;
    let target = target(address, "/socket")?.header("sec-websocket-protocol", "one, two")?;
    let opened = websocket::open(&target).await?;
    assert_eq!(opened.headers["sec-websocket-protocol"], "one");
    Ok(())
}

#[tokio::test]
async fn other_paths_are_refused_with_status_and_body() -> anyhow::Result<()> {
    let address = start().await?.websocket;
    let Err(OpenError::Refused { status, headers, body }) =
        websocket::open(&target(address, "/other")?).await
    else {
        anyhow::bail!("not refused");
    };
    assert_eq!((status.as_u16(), &headers["content-type"]), (404, &"application/json".parse()?));
    assert_eq!(serde_json::from_str::<Value>(&body)?["code"], "NOT_FOUND");
    Ok(())
}

#[tokio::test]
async fn plain_requests_get_the_status_426() -> anyhow::Result<()> {
    let response = ask(start().await?.websocket, "GET /socket").await?;
    assert_eq!((response.status, response.header("upgrade")), (426, vec![&b"websocket"[..]]));
    Ok(())
}

/// The error of the client for a server that responds to every request with `response`.
async fn opened_against(response: &'static str) -> anyhow::Result<OpenError> {
    let listener = TcpListener::bind("127.77.0.2:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await?;
        let mut request = [0; 4096];
        let _: usize = stream.read(&mut request).await?;
        stream.write_all(response.as_bytes()).await
    });
    match websocket::open(&target(address, "/socket")?).await {
        Ok(_) => anyhow::bail!("opened"),
        Err(error) => Ok(error),
    }
}

#[tokio::test]
async fn the_client_refuses_a_wrong_accept_key() -> anyhow::Result<()> {
    let error = opened_against(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n",
    )
    .await?;
    assert!(matches!(&error, OpenError::NotAWebSocket(name) if name == "sec-websocket-accept"));
    Ok(())
}

#[tokio::test]
async fn the_client_reports_a_truncated_refusal() -> anyhow::Result<()> {
    let error = opened_against("HTTP/1.1 403 Forbidden\r\nContent-Length: 99\r\n\r\nno").await?;
    assert_eq!(
        error.to_string(),
        "the WebSocket upgrade was refused: HTTP 403 Forbidden\nno [the connection broke here]"
    );
    Ok(())
}
