//! Plain HTTP/2, in particular gRPC: many streams on one connection, each of which ends independently, and none of
//! which takes the memory of the others.

use std::future::poll_fn;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use http::{HeaderMap, Request, Response};
use sandgate_egress_tests::h2c::{connect, run};
use sandgate_egress_tests::{Rig, Setup, site};
use serde_json::json;

use crate::support::{is_answered_with, tests, with, with_setup};

tests![
    a_thousand_streams_of_one_connection_begin,
    a_response_that_ends_before_its_request_is_complete,
    idle_streams_do_not_stop_the_others,
];

const PATIENCE: Duration = Duration::from_secs(60);

fn request(path: &str) -> Result<Request<()>> {
    Ok(Request::post(format!("http://ok.test{path}")).body(())?)
}

/// Starts a request whose body does not end.
async fn begin(
    send: &mut SendRequest<Bytes>,
    path: &str,
) -> Result<(ResponseFuture, h2::SendStream<Bytes>)> {
    let mut ready = send.clone().ready().await?;
    Ok(ready.send_request(request(path)?, false)?)
}

/// Sends all data, as the client's windows permit.
async fn send_all(stream: &mut h2::SendStream<Bytes>, mut data: Bytes) -> Result<()> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len().min(65_536));
        let capacity = poll_fn(|context| stream.poll_capacity(context)).await;
        let capacity = capacity.context("the stream ended")??;
        stream.send_data(data.split_to(capacity.min(data.len())), false)?;
    }
    Ok(())
}

fn a_thousand_streams_of_one_connection_begin() -> Result<()> {
    const STREAMS: usize = 1_000;
    let (rig, _sidecar) = with(json!({ "deny_out": ["unrelated.test"] }))?;
    let server = rig.serve_h2c(site::OK, |_request, mut respond| async move {
        let mut body = respond.send_response(Response::new(()), false)?;
        // Runs until the client disconnects.
        poll_fn(|context| body.poll_reset(context)).await?;
        Ok(())
    })?;
    run(async {
        let mut send = connect(&rig.sandbox, server.address(), &Builder::new()).await?;
        let mut open = Vec::new();
        for at in 0..STREAMS {
            let begun = tokio::time::timeout(PATIENCE, begin(&mut send, "/")).await;
            let (response, body) =
                begun.with_context(|| format!("stream {at} does not begin"))??;
            let response = tokio::time::timeout(PATIENCE, response).await;
            let response = response.with_context(|| format!("stream {at} is not answered"))??;
            open.push((response, body));
        }
        ensure!(server.accepted() >= 1 && open.len() == STREAMS);
        Ok(())
    })
}

/// gRPC: the server ends a call with a status, while the client still sends and reads slowly.
fn a_response_that_ends_before_its_request_is_complete() -> Result<()> {
    const WHOLE: usize = 4_000_000;
    let (rig, _sidecar) = with(json!({ "deny_out": ["unrelated.test"] }))?;
    let server = rig.serve_h2c(site::OK, |request, mut respond| async move {
        let mut body = respond.send_response(Response::new(()), false)?;
        send_all(&mut body, Bytes::from(vec![b'x'; WHOLE])).await?;
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "5".parse()?);
        body.send_trailers(trailers)?;
        // The request has not ended, and the server does not reset it.
        let mut requested = request.into_body();
        while requested.data().await.is_some() {}
        Ok(())
    })?;
    run(async {
        let mut builder = Builder::new();
        builder.initial_window_size(65_535);
        let mut send = connect(&rig.sandbox, server.address(), &builder).await?;
        let (response, mut requested) = begin(&mut send, "/").await?;
        requested.send_data(Bytes::from_static(b"hello"), false)?;
        let mut body = response.await?.into_body();
        let mut received = 0;
        while let Some(data) = body.data().await {
            let data = data.with_context(|| format!("after {received} of {WHOLE} bytes"))?;
            received += data.len();
            body.flow_control().release_capacity(data.len())?;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let trailers = body.trailers().await?.context("no trailers")?;
        let status = trailers.get("grpc-status").context("no status")?;
        ensure!(
            received == WHOLE && status == "5",
            "{received} of {WHOLE} bytes, status {status:?}"
        );
        requested.send_data(Bytes::new(), true)?;
        Ok(())
    })
}

/// Makes a new connection and a request, and returns the time until both have succeeded.
fn goes_on(rig: &Rig) -> Result<Duration> {
    const WITHIN: Duration = Duration::from_secs(5);
    let begun = Instant::now();
    loop {
        let tcp = rig.sandbox.tcp(site::OTHER, site::ECHO_PORT, b"hello")?;
        let request = b"GET / HTTP/1.1\r\nHost: other.test\r\n\r\n";
        let http = rig.sandbox.tcp(site::OTHER, site::HTTP_PORT, request)?;
        let is_ok = http.outcome.text().is_some_and(|text| text.starts_with("HTTP/1.1 200 "));
        match is_answered_with("tcp", &tcp, b"hello") {
            Ok(()) if is_ok => return Ok(begun.elapsed()),
            done => ensure!(begun.elapsed() < WITHIN, "tcp: {done:?}, http: {:?}", http.outcome),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A client with closed windows makes Envoy buffer the start of each response. In one sandbox, such a program could
/// affect the others.
fn idle_streams_do_not_stop_the_others() -> Result<()> {
    const HEAP_MIB: u64 = 200;
    const STREAMS: usize = 60;
    let setup = Setup::new(json!({ "deny_out": ["unrelated.test"] }))
        .with(&["--max-heap", &HEAP_MIB.to_string()]);
    let (rig, sidecar) = with_setup(&setup)?;
    let server = rig.serve_h2c(site::OK, |_request, mut respond| async move {
        let mut body = respond.send_response(Response::new(()), false)?;
        send_all(&mut body, Bytes::from(vec![b'x'; 1 << 20])).await
    })?;
    let begun = Instant::now();
    let (mut opened, mut refused, mut most, mut longest) = (0_usize, 0_usize, 0, Duration::ZERO);
    run(async {
        let mut silent = Vec::new();
        while begun.elapsed() < Duration::from_secs(20) {
            let mut builder = Builder::new();
            builder.initial_window_size(0);
            // At worst, Envoy refuses the complete connection.
            let Ok(mut send) = connect(&rig.sandbox, server.address(), &builder).await else {
                refused += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            for _ in 0..STREAMS {
                match tokio::time::timeout(Duration::from_secs(1), begin(&mut send, "/")).await {
                    Ok(Ok(stream)) => silent.push(stream),
                    _ => break,
                }
            }
            opened = silent.len();
            let memory =
                sidecar.status().and_then(|status| status["envoy_resident_bytes"].as_u64());
            most = most.max(memory.unwrap_or_default());
            // Other clients continue. If the burst came first, Envoy resets it some moments later.
            longest = longest
                .max(goes_on(&rig).with_context(|| format!("beside {opened} silent streams"))?);
        }
        Ok(())
    })?;
    println!(
        "    {opened} silent streams, {refused} connections refused, Envoy's memory at most {most} bytes, others waited \
         {longest:?} at most"
    );
    let status = sidecar.status().unwrap_or_default();
    ensure!(status["envoy_restarts"] == 0 && status["ready"] == true, "{status}");
    // The streams would have used more memory than the limit.
    ensure!(opened as u64 * 300 * 1024 > HEAP_MIB << 20, "only {opened} streams");
    Ok(())
}
