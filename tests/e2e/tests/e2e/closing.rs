//! The end of connections and streams: no byte of a response is lost, and the end is forwarded without delay.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderMap, HeaderValue, Response};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use sandgate_demo::client::websocket;
use sandgate_e2e::{Setup, Stack, run};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::scripted::{PORT, listening};
use crate::support::{replace_once, target};

const LENGTH: usize = 2 << 20;
/// The bytes of a response in the kernel buffers of both sides. Envoy buffers the rest.
const KERNEL_BUFFER: u32 = 64 << 10;

/// Sets a small kernel buffer for Envoy's side of each connection.
fn small_buffers(text: &str) -> String {
    let option = "socket_options: &gone_clients [";
    // `SO_SNDBUF` of `SOL_SOCKET` in Linux.
    let buffer =
        format!("{{ level: 1, name: 7, int_value: {KERNEL_BUFFER}, state: STATE_LISTENING }}");
    replace_once(text, option, &format!("{option}{buffer}, "))
}

/// Connects a client that requests [`LENGTH`] bytes and `connection: close`.
async fn downloading(stack: &Stack, host: &str) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(KERNEL_BUFFER)?;
    let mut stream = socket.connect(stack.edge().address()).await?;
    let request = format!(
        "GET /download?bytes={LENGTH} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    Ok(stream)
}

/// Reads a response with a pause before its last `missing` bytes. Returns the number of bytes of the body.
async fn read_with_a_pause(
    mut stream: TcpStream,
    missing: usize,
    pause: Duration,
) -> Result<usize> {
    let mut response: Vec<u8> = Vec::new();
    let mut buffer = vec![0; 8 << 10];
    let mut pause = Some(pause);
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            break;
        }
        response.extend(buffer.get(..read).unwrap_or_default());
        if response.len() + missing >= LENGTH
            && let Some(pause) = pause.take()
        {
            tokio::time::sleep(pause).await;
        }
    }
    let head = response.windows(4).position(|end| end == b"\r\n\r\n").context("no head")? + 4;
    Ok(response.len() - head)
}

#[test]
fn a_client_that_pauses_near_the_end_of_a_response_gets_the_rest() {
    run(Setup { change: small_buffers, ..Setup::default() }, async |stack| {
        let sandbox = stack.public_env().await?;
        let host = sandbox.host(8080);
        // During one of these pauses, Envoy has the complete response and can't send all of it.
        let clients = (0..16).map(async |number| {
            let stream = downloading(stack, &host).await?;
            read_with_a_pause(stream, number * (32 << 10), Duration::from_millis(1500)).await
        });
        for length in futures_util::future::try_join_all(clients).await? {
            assert_eq!(length, LENGTH);
        }
        Ok(())
    });
}

#[test]
fn a_client_that_never_reads_is_disconnected() {
    let change =
        |text: &str| small_buffers(&replace_once(text, "int_value: 300000", "int_value: 2000"));
    run(Setup { change, ..Setup::default() }, async |stack| {
        let sandbox = stack.public_env().await?;
        // Both connections are closed: one whose response Envoy has completely, and one whose response is in flight.
        let mut clients = vec![downloading(stack, &sandbox.host(8080)).await?];
        let mut reading = downloading(stack, &sandbox.host(8080)).await?;
        let mut most = vec![0; LENGTH - (200 << 10)];
        reading.read_exact(&mut most).await?;
        clients.push(reading);
        let active = || stack.envoy().stat("http.edge.downstream_cx_active$");
        assert_eq!(active().await?, 2);
        sandgate_stack::wait::until("both are closed", Duration::from_secs(20), async || {
            Ok((active().await? == 0).then_some(()))
        })
        .await
    });
}

/// Closes the port of an open stream. Returns the time until the client sees the end of the stream.
async fn time_to_notice(
    stack: &Stack,
    sandbox: &sandgate_e2e::Sandbox,
    ended: impl Future<Output = ()>,
) -> Result<Duration> {
    stack.owner.expose(stack.api(), sandbox, &[8080], false).await?;
    let begun = Instant::now();
    tokio::time::timeout(Duration::from_secs(5), ended)
        .await
        .context("the stream is still open")?;
    let elapsed = begun.elapsed();
    stack.owner.expose(stack.api(), sandbox, &[8080, 3000, 50051], true).await?;
    Ok(elapsed)
}

#[test]
fn the_end_of_a_stream_is_forwarded_immediately() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.public_env().await?;
        let (mut sockets, mut calls) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let mut socket =
                websocket::open(&target(stack, &sandbox.host(3000), "/socket")?).await?.socket;
            let ended = async { while let Some(Ok(_)) = socket.next().await {} };
            sockets.push(time_to_notice(stack, &sandbox, ended).await?);

            let grpc = target(stack, &sandbox.host(50051), "")?;
            let mut echo = sandgate_demo::client::grpc::connect(&grpc).await?.echo();
            let open = futures_util::stream::iter([crate::grpc::request("x")])
                .chain(futures_util::stream::pending());
            let mut answers = echo.bidi_stream(open).await?.into_inner();
            ensure!(answers.message().await?.is_some(), "no answer");
            let ended = async { while let Ok(Some(_)) = answers.message().await {} };
            calls.push(time_to_notice(stack, &sandbox, ended).await?);
        }
        eprintln!("noticed after: WebSocket {sockets:?}, gRPC {calls:?}");
        // Envoy's default delayed_close_timeout alone is 1 s.
        for times in [sockets, calls] {
            let best = times.iter().min().context("no times")?;
            assert!(*best < Duration::from_millis(700), "{times:?}");
        }
        Ok(())
    });
}

#[test]
fn a_websocket_that_the_app_closes_is_closed_immediately() {
    run(Setup::default(), async |stack| {
        let (sandbox, listener) = listening(stack).await?;
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = vec![0; 4096];
                let _ = stream.read(&mut request).await;
                let switched = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\
                    upgrade: websocket\r\n\r\n\x88\x00";
                let _ = stream.write_all(switched).await;
            }
        });
        let mut times = Vec::new();
        for _ in 0..3 {
            let mut stream = TcpStream::connect(stack.edge().address()).await?;
            let request = format!(
                "GET / HTTP/1.1\r\nhost: {}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
                sandbox.host(PORT)
            );
            stream.write_all(request.as_bytes()).await?;
            let begun = Instant::now();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await?;
            ensure!(all.ends_with(b"\x88\x00"), "{}", String::from_utf8_lossy(&all));
            times.push(begun.elapsed());
        }
        eprintln!("closed after {times:?}");
        assert!(times.iter().any(|time| *time < Duration::from_millis(700)), "{times:?}");
        Ok(())
    });
}

#[test]
fn an_early_denial_of_a_large_upload_can_be_read() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.my_env().await?;
        let request = format!(
            "POST /upload HTTP/1.1\r\nhost: {}\r\ncontent-length: {LENGTH}\r\n\r\n",
            sandbox.host(8080)
        );
        for _ in 0..10 {
            let mut stream = TcpStream::connect(stack.edge().address()).await?;
            stream.write_all(request.as_bytes()).await?;
            // The upload fails, or the kernel accepts it.
            let _ = stream.write_all(&vec![0; LENGTH]).await;
            let mut answer = vec![0; 12];
            stream.read_exact(&mut answer).await.context("no answer")?;
            assert_eq!(answer, b"HTTP/1.1 401");
        }
        Ok(())
    });
}

/// Larger than all windows and buffers together.
const MESSAGES: usize = 12_000_000;
/// The gRPC status NOT_FOUND.
const NOT_FOUND: &str = "5";

/// A gRPC server that ends each call with 12 MB and a status, while its client still sends.
async fn ending_early(listener: TcpListener) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        let service = service_fn(async |request| {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static(NOT_FOUND));
            let piece = Bytes::from(vec![0; 10_000]);
            let pieces = std::iter::repeat_n(piece, MESSAGES / 10_000).map(Frame::data);
            let frames = pieces.chain([Frame::trailers(trailers)]).map(Ok::<_, anyhow::Error>);
            // The server continues to read. Otherwise, it would reset the stream.
            let mut body = http::Request::<hyper::body::Incoming>::into_body(request);
            tokio::spawn(async move { while let Some(Ok(_)) = body.frame().await {} });
            let frames = futures_util::stream::iter(frames);
            let response = Response::builder().header("content-type", "application/grpc");
            anyhow::Ok(response.body(StreamBody::new(frames))?)
        });
        tokio::spawn(
            hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service),
        );
    }
}

#[test]
fn a_grpc_response_that_ends_before_its_request_arrives_complete() {
    run(Setup::default(), async |stack| {
        let (sandbox, listener) = listening(stack).await?;
        tokio::spawn(ending_early(listener));
        let request = futures_util::stream::iter([Bytes::from_static(&[0; 5])])
            .chain(futures_util::stream::pending());
        let call = stack.edge().post(&sandbox.host(PORT), "/test/Call").grpc();
        let mut answer = call.stream(request).open().await?;
        let (mut length, mut status) = (0, None);
        while let Some(frame) = answer.body_mut().frame().await {
            // A slow reader, whose window is exhausted when the server ends the call.
            tokio::time::sleep(Duration::from_millis(2)).await;
            match frame.context("the call was reset")?.into_data() {
                Ok(data) => length += data.len(),
                Err(frame) => {
                    let trailers =
                        frame.into_trailers().ok().context("neither data nor trailers")?;
                    status = trailers.get("grpc-status").cloned();
                }
            }
        }
        assert_eq!(length, MESSAGES);
        assert_eq!(status, Some(HeaderValue::from_static(NOT_FOUND)));
        Ok(())
    });
}
