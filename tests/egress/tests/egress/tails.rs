//! The end of plain HTTP: clients get complete responses, see the end of a stream immediately, and can read a refusal
//! while they still send.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use sandgate_egress_tests::custom_server::head;
use sandgate_egress_tests::{Rig, Setup, Sidecar, site};
use serde_json::json;
use socket2::{Domain, Socket, Type};

use crate::support::{tests, with, with_setup};

tests![
    a_client_that_pauses_gets_the_complete_response,
    the_end_of_a_websocket_is_forwarded_immediately,
    a_client_can_read_an_early_refusal_of_its_upload,
    a_request_that_an_update_denies_ends_immediately,
];

/// A rig with a rule that names a domain, so that plain HTTP is inspected.
fn rig() -> Result<(Rig, Sidecar)> {
    with(json!({ "deny_out": ["unrelated.test"] }))
}

/// A connection with a small receive buffer.
fn connected(rig: &Rig, address: SocketAddr, receives: usize) -> Result<TcpStream> {
    let stream: TcpStream = rig.sandbox.enter(|| -> Result<TcpStream> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_recv_buffer_size(receives)?;
        socket.connect(&address.into())?;
        Ok(socket.into())
    })??;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Envoy closes a connection when it has sent the response, which its client may not have read by then.
fn a_client_that_pauses_gets_the_complete_response() -> Result<()> {
    const WHOLE: usize = 4_000_000;
    /// Longer than Envoy's default delay of the close of a connection.
    const PAUSE: Duration = Duration::from_millis(1300);
    /// The client pauses after each step in the last part of the response. During one of the pauses, the rest of the
    /// response is in Envoy and not in a kernel.
    const STEP: usize = 40_000;
    const LAST: usize = 480_000;
    let setup = Setup::new(json!({ "deny_out": ["unrelated.test"] }));
    let (rig, _sidecar) = with_setup(&setup.with(&["--tcp-buffer", "131072"]))?;
    let server = rig.serve(site::OK, |mut stream| {
        let _request = head(&mut stream)?;
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {WHOLE}\r\n\r\n")?;
        stream.write_all(&vec![b'x'; WHOLE])?;
        // The server keeps its connection open, so its close ends nothing.
        drop(head(&mut stream));
        Ok(())
    })?;
    let mut stream = connected(&rig, server.address(), 8192)?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: ok.test\r\nConnection: close\r\n\r\n")?;
    let (_, body) = head(&mut stream)?.context("no response")?;
    let (mut received, mut buffer) = (body.len(), vec![0; 16_384]);
    let mut next = WHOLE - LAST;
    while received < WHOLE {
        if received > next {
            next += STEP;
            std::thread::sleep(PAUSE);
        }
        let length = stream.read(&mut buffer).with_context(|| format!("after {received}"))?;
        ensure!(length > 0, "{received} of {WHOLE} bytes came");
        received += length;
    }
    Ok(())
}

fn the_end_of_a_websocket_is_forwarded_immediately() -> Result<()> {
    /// Envoy's default would add a second.
    const REFUSAL_TIME: Duration = Duration::from_millis(500);
    let (rig, _sidecar) = rig()?;
    let server = rig.serve(site::OK, |mut stream| {
        let _request = head(&mut stream)?;
        stream.write_all(
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n\x88\x00",
        )?;
        Ok(())
    })?;
    let mut times = Vec::new();
    for _ in 0..3 {
        let mut stream = connected(&rig, server.address(), 65_536)?;
        let begun = Instant::now();
        stream.write_all(
            b"GET / HTTP/1.1\r\nHost: ok.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        )?;
        let mut all = Vec::new();
        stream.read_to_end(&mut all)?;
        ensure!(all.ends_with(b"\x88\x00"), "{}", String::from_utf8_lossy(&all));
        times.push(begun.elapsed());
    }
    ensure!(times.iter().any(|time| *time < REFUSAL_TIME), "the end came after {times:?}");
    Ok(())
}

/// A client that is refused during its upload continues to send for a while, and may be reset for this. The refusal
/// must arrive before.
fn a_client_can_read_an_early_refusal_of_its_upload() -> Result<()> {
    let (rig, sidecar) = with(json!({ "deny_out": ["203.0.113.20", "2001:db8:c::20"] }))?;
    for policy in [
        json!({ "deny_out": ["203.0.113.20", "other.test"] }),
        json!({ "deny_out": ["203.0.113.20"] }),
    ] {
        sidecar.set(&policy)?;
        for size in [100_000, 1_000_000, 20_000_000] {
            let address = SocketAddr::new(site::OTHER, site::HTTP_PORT);
            let mut stream = connected(&rig, address, 65_536)?;
            write!(
                stream,
                "POST / HTTP/1.1\r\nHost: other.test\r\nContent-Length: {size}\r\n\r\n"
            )?;
            let sent = stream.write_all(&vec![b'x'; size]);
            if let Err(error) = &sent {
                let ended = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
                ensure!(ended.contains(&error.kind()), "{size} bytes: {error}");
            }
            // Reads the data that arrived before the end of the connection, as curl and urllib3 do.
            let mut answer = [0; 1024];
            let length =
                stream.read(&mut answer).with_context(|| format!("{size} bytes, {sent:?}"))?;
            let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
            ensure!(
                answer.starts_with("HTTP/1.1 403 ") && answer.contains("EGRESS_DENIED"),
                "{size}: {answer}"
            );
        }
    }
    Ok(())
}

/// The policy denies a response in progress: as for connections, see `updates.rs`.
fn a_request_that_an_update_denies_ends_immediately() -> Result<()> {
    /// Measured from the write of the policy file until the client sees the end.
    const WITHIN: Duration = Duration::from_secs(1);
    let (rig, sidecar) = rig()?;
    let server = rig.serve(site::OTHER, |mut stream| {
        let _request = head(&mut stream)?;
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")?;
        drop(head(&mut stream));
        Ok(())
    })?;
    let mut times = Vec::new();
    for _ in 0..3 {
        let mut stream = connected(&rig, server.address(), 65_536)?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: other.test\r\n\r\n")?;
        let (_, mut body) = head(&mut stream)?.context("no response")?;
        while !body.ends_with(b"hello\r\n") {
            let mut more = [0; 64];
            let length = stream.read(&mut more)?;
            ensure!(length > 0, "the response ended");
            body.extend_from_slice(&more[..length]);
        }
        let before = sidecar.until_ready()?;
        let begun = Instant::now();
        sidecar.write(
            &json!({ "deny_out": ["unrelated.test", IpAddr::to_string(&site::OTHER)] }).to_string(),
        )?;
        let mut rest = Vec::new();
        let ended = stream.read_to_end(&mut rest);
        times.push(begun.elapsed());
        ensure!(
            ended.is_ok()
                || ended.as_ref().is_err_and(|error| error.kind() == ErrorKind::ConnectionReset),
            "{ended:?}"
        );
        // The policy is in force everywhere before another one is set.
        sidecar.until("at another generation", |status| {
            (status["generation"].as_u64()? > before && status["ready"] == true).then_some(())
        })?;
        sidecar.set(&json!({ "deny_out": ["unrelated.test"] }))?;
    }
    println!("    a live response ended {times:?} after the policy was written");
    ensure!(times.iter().any(|time| *time <= WITHIN), "ended after {times:?}");
    Ok(())
}
