//! Bodies are streamed and not buffered: events arrive one by one, and 100 MB do not increase Envoy's memory.

use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use futures_util::StreamExt as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use sandgate_e2e::{Client, Envoy, Protocol, Setup, run};
use sha2::{Digest as _, Sha256};

use crate::support::text;

const LENGTH: usize = 100 << 20;
const PIECE: usize = 64 << 10;
/// Buffers of a few streams and connections, and the allocator's slack; far less than the body.
const GROWTH: u64 = 24 << 20;

/// Reads the rest of a body.
pub(crate) async fn read_all(body: &mut Incoming) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            all.extend_from_slice(&data);
        }
    }
    Ok(all)
}

#[test]
fn server_sent_events_arrive_one_by_one() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.public_env().await?;
        for protocol in [Protocol::Http1, Protocol::H2c] {
            let begun = Instant::now();
            let call = stack.edge().get(&sandbox.host(8080), "/events?count=4&interval_ms=400");
            let mut answer = call.over(protocol).open().await?;
            assert_eq!(answer.headers()["content-type"], "text/event-stream");
            let mut arrivals = Vec::new();
            let mut seen = 0;
            let mut text = String::new();
            while let Some(frame) = answer.body_mut().frame().await {
                let Ok(data) = frame?.into_data() else { continue };
                text.push_str(std::str::from_utf8(&data)?);
                while text.matches("\n\n").count() > seen {
                    seen += 1;
                    arrivals.push(begun.elapsed());
                }
            }
            assert_eq!(arrivals.len(), 4, "{text}");
            // The events arrive separately. Buffered, they would all arrive at the end.
            for pair in arrivals.windows(2) {
                assert!(pair[1] - pair[0] > Duration::from_millis(200), "{arrivals:?}");
            }
        }
        Ok(())
    });
}

/// Returns the largest amount of memory that Envoy has while `work` runs.
async fn peak(envoy: &Envoy, work: impl Future<Output = Result<()>>) -> Result<u64> {
    let mut largest = envoy.resident_bytes()?;
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    tokio::pin!(work);
    loop {
        tokio::select! {
            outcome = &mut work => {
                outcome?;
                return Ok(largest.max(envoy.resident_bytes()?));
            }
            _ = ticks.tick() => largest = largest.max(envoy.resident_bytes()?),
        }
    }
}

async fn upload(edge: Client, host: &str, length: usize, protocol: Protocol) -> Result<()> {
    let piece = Bytes::from((0..PIECE).map(|i| u8::try_from(i % 253).unwrap()).collect::<Vec<_>>());
    let mut hash = Sha256::new();
    for _ in 0..length / PIECE {
        hash.update(&piece);
    }
    let expected: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let pieces = futures_util::stream::iter(std::iter::repeat_n(piece, length / PIECE));
    let call = edge.post(host, "/upload").over(protocol).stream(pieces);
    let answer = call.send().await?.ok()?;
    assert_eq!(answer["body_length"], length);
    assert_eq!(text(&answer, "sha256")?, expected);
    Ok(())
}

async fn download(
    edge: Client,
    host: &str,
    length: usize,
    protocol: Protocol,
    pause: Duration,
) -> Result<()> {
    let path = format!("/download?bytes={length}");
    let mut answer = edge.get(host, &path).over(protocol).open().await?;
    let mut read = 0;
    // A slow reader gives Envoy the time to read ahead.
    tokio::time::sleep(pause).await;
    while let Some(frame) = answer.body_mut().frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        let good = data.iter().enumerate().all(|(i, byte)| usize::from(*byte) == (read + i) % 251);
        assert!(good, "another byte than was sent, behind {read}");
        read += data.len();
    }
    assert_eq!(read, length);
    Ok(())
}

#[test]
fn uploads_and_downloads_of_100_mb_do_not_increase_envoys_memory() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.public_env().await?;
        let (edge, envoy) = (stack.edge(), stack.envoy());
        let host = sandbox.host(8080);
        let pause = Duration::from_secs(1);
        for protocol in [Protocol::Http1, Protocol::H2c] {
            // The first request allocates memory that does not belong to the body.
            upload(edge, &host, PIECE, protocol).await?;
            download(edge, &host, PIECE, protocol, Duration::ZERO).await?;
            let before = envoy.resident_bytes()?;
            let up = peak(envoy, upload(edge, &host, LENGTH, protocol)).await?;
            let down = peak(envoy, download(edge, &host, LENGTH, protocol, pause)).await?;
            eprintln!(
                "{protocol:?}: resident {} MiB before, at most {} MiB up and {} MiB down",
                before >> 20,
                up >> 20,
                down >> 20
            );
            assert!(up.max(down) < before + GROWTH, "{before} {up} {down}");
        }
        Ok(())
    });
}

#[test]
fn streams_of_one_connection_do_not_block_each_other() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.public_env().await?;
        let host = sandbox.host(8080);
        let connection = stack.edge().connect(Protocol::H2c).await?;
        let begun = Instant::now();
        let calls = futures_util::stream::iter(0..20).map(|_| {
            let connection = connection.share();
            let call = stack.edge().get(&host, "/slow?ms=500");
            async move { connection?.send(call).await }
        });
        let answers: Vec<_> = calls.buffer_unordered(20).collect().await;
        assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|it| it.status == 200)));
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
        Ok(())
    });
}

#[test]
fn an_upload_with_expect_100_continue_gets_a_100_and_is_then_authorized() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.my_env().await?;
        let upload = |credential: &str| {
            format!(
                "POST /upload HTTP/1.1\r\nhost: {}\r\nauthorization: {credential}\r\n\
                 expect: 100-continue\r\ncontent-length: 4\r\nconnection: close\r\n\r\nbody",
                sandbox.host(8080)
            )
        };
        // The gateway sends the 100 itself, because the 100 of an app could set cookies: see edge.yaml.
        for (credential, status) in
            [("Bearer tl_apiKey_wrong", "401"), (&format!("Bearer {}", stack.key()), "200")]
        {
            let answer = stack.edge().raw(upload(credential).as_bytes()).await?;
            let answer = String::from_utf8_lossy(&answer).into_owned();
            let (asked, judged) = answer.split_once("\r\n\r\n").unwrap_or_default();
            assert_eq!(asked, "HTTP/1.1 100 Continue", "{answer}");
            assert!(judged.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        }
        Ok(())
    });
}
