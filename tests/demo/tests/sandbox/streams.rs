//! Events, downloads and uploads.

use std::time::{Duration, Instant};

use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;

use crate::support::{Http1, ID, ask, start};

/// The `data` of the next event.
async fn event(connection: &mut Http1) -> anyhow::Result<Value> {
    loop {
        let line = connection.line().await?;
        if let Some(data) = line.strip_prefix(b"data: ") {
            return Ok(serde_json::from_slice(data)?);
        }
    }
}

#[tokio::test]
async fn events_arrive_one_by_one() -> anyhow::Result<()> {
    let mut connection = Http1::connect(start().await?.http).await?;
    connection.send(b"GET /events?count=3&interval_ms=400 HTTP/1.1\r\nHost: h\r\n\r\n").await?;
    let head = connection.head().await?;
    assert_eq!(head.header("content-type"), [b"text/event-stream"]);
    assert!(head.header("content-length").is_empty());
    let mut previous: Option<Instant> = None;
    for number in 1..=3 {
        let data = event(&mut connection).await?;
        assert_eq!((&data["number"], &data["sandbox"]), (&number.into(), &ID.into()));
        let now = Instant::now();
        // Events that are buffered and sent together would have no time between them.
        if let Some(previous) = previous {
            assert!(now - previous >= Duration::from_millis(100), "{:?}", now - previous);
        }
        previous = Some(now);
    }
    // The last chunk: the stream has ended.
    while connection.line().await? != b"0" {}
    Ok(())
}

#[tokio::test]
async fn an_unbounded_event_stream_continues() -> anyhow::Result<()> {
    let mut connection = Http1::connect(start().await?.http).await?;
    connection.send(b"GET /events?count=0&interval_ms=1 HTTP/1.1\r\nHost: h\r\n\r\n").await?;
    for number in 1..=50 {
        assert_eq!(event(&mut connection).await?["number"], number);
    }
    Ok(())
}

#[tokio::test]
async fn downloads_have_the_requested_length_and_the_known_pattern() -> anyhow::Result<()> {
    let http = start().await?.http;
    for bytes in [0_usize, 1, 251 * 256, 251 * 256 + 1, 10_000_000] {
        let response = ask(http, &format!("GET /download?bytes={bytes}")).await?;
        assert_eq!(response.body.len(), bytes);
        let expected = (0..=250_u8).cycle().take(bytes);
        assert!(response.body.into_iter().eq(expected), "{bytes} bytes differ");
    }
    assert_eq!(ask(http, "GET /download?bytes=-1").await?.status, 400);
    Ok(())
}

#[tokio::test]
async fn an_unread_download_ends_with_its_connection() -> anyhow::Result<()> {
    let http = start().await?.http;
    let mut connection = Http1::connect(http).await?;
    let all = u64::MAX / 2;
    let request = format!("GET /download?bytes={all} HTTP/1.1\r\nHost: h\r\n\r\n");
    connection.send(request.as_bytes()).await?;
    let mut some = vec![0; 1 << 20];
    connection.0.read_exact(&mut some).await?;
    drop(connection);
    assert_eq!(ask(http, "GET /").await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn the_response_to_an_upload_has_the_length_and_the_digest() -> anyhow::Result<()> {
    let http = start().await?.http;
    let block = vec![b'u'; 65_536];
    let mut digest = Sha256::new();
    let mut connection = Http1::connect(http).await?;
    connection
        .send(b"PUT /upload HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await?;
    for _ in 0..160 {
        connection.send(b"10000\r\n").await?;
        connection.send(&block).await?;
        connection.send(b"\r\n").await?;
        digest.update(&block);
    }
    connection.send(b"0\r\n\r\n").await?;
    let answer = connection.response().await?.json()?;
    let expected: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(answer["body_length"], 160 * 65_536);
    assert_eq!(answer["sha256"], expected);
    let answer = ask(http, "POST /upload\r\nContent-Length: 0").await?.json()?;
    assert_eq!(
        answer["sha256"],
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    );
    Ok(())
}
