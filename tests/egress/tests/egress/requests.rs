//! Plain HTTP: each request is evaluated separately, and arrives unchanged.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use sandgate_egress_tests::custom_server::head;
use sandgate_egress_tests::{Rig, site};
use serde_json::json;

use crate::support::{dig, tests, with};

tests![
    the_second_request_of_a_connection_is_evaluated_like_the_first,
    no_request_reaches_a_host_other_than_the_evaluated_one,
    requests_arrive_unchanged,
    responses_may_have_many_fields,
    an_upgrade_with_an_ordinary_response_arrives_complete,
    a_request_that_offers_an_upgrade_to_tls_is_not_refused,
];

/// A rig whose sandbox may reach only `ok.test`, and the virtual address of that name.
fn with_one_name() -> Result<(Rig, sandgate_egress_tests::Sidecar, IpAddr)> {
    let (rig, sidecar) = with(json!({ "allow_internet_access": false, "allow_out": ["ok.test"] }))?;
    let said = dig(&rig, site::RESOLVER, &["ok.test", "A", "+short"])?;
    let address = said.trim().parse().with_context(|| format!("ok.test: `{said}`"))?;
    Ok((rig, sidecar, address))
}

/// Sends parts one after the other, and reads until no data arrives for a moment.
fn exchange(rig: &Rig, address: IpAddr, parts: &[&[u8]]) -> Result<String> {
    let exchanged = rig.sandbox.enter(|| -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect_timeout(
            &SocketAddr::new(address, site::HTTP_PORT),
            Duration::from_secs(5),
        )?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        for part in parts {
            // The connection may be closed already. The data before its close is read below.
            if stream.write_all(part).is_err() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let mut answer = Vec::new();
        // The response ends with the connection, or when no more data arrives.
        let _ = stream.read_to_end(&mut answer);
        Ok(answer)
    })??;
    Ok(String::from_utf8_lossy(&exchanged).into_owned())
}

fn the_second_request_of_a_connection_is_evaluated_like_the_first() -> Result<()> {
    let (rig, _sidecar, ok) = with_one_name()?;
    let (good, bad) =
        ("GET /1 HTTP/1.1\r\nHost: ok.test\r\n\r\n", "GET /2 HTTP/1.1\r\nHost: other.test\r\n\r\n");
    let both = format!("{good}{bad}");
    for parts in [vec![good.as_bytes(), bad.as_bytes()], vec![both.as_bytes()]] {
        let answer = exchange(&rig, ok, &parts)?;
        ensure!(answer.contains("GET /1 HTTP/1.1"), "the first was not answered: {answer}");
        ensure!(answer.contains("EGRESS_DENIED") && !answer.contains("GET /2"), "{answer}");
    }
    Ok(())
}

fn no_request_reaches_a_host_other_than_the_evaluated_one() -> Result<()> {
    let (rig, _sidecar, ok) = with_one_name()?;
    let capture = rig.capture()?;
    let split: Vec<Vec<u8>> =
        b"GET / HTTP/1.1\r\nHost: other.test\r\n\r\n".iter().map(|byte| vec![*byte]).collect();
    let split: Vec<&[u8]> = split.iter().map(Vec::as_slice).collect();
    let whole: [&[u8]; 18] = [
        b"GET http://other.test/ HTTP/1.1\r\nHost: ok.test\r\n\r\n",
        b"CONNECT other.test:443 HTTP/1.1\r\nHost: ok.test\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: ok.test\r\nHost: other.test\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: other.test\r\nHost: ok.test\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: ok.test,other.test\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: ok.test@other.test\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 203.0.113.20\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : other.test\r\nHost: ok.test\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: ok.test\r\n other.test\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: ok.test\x00other.test\r\n\r\n",
        b"GET / HTTP/1.1\nHost: other.test\n\n",
        b"get / HTTP/1.1\r\nHost: other.test\r\n\r\n",
        b"GET\t/\tHTTP/1.1\r\nHost: other.test\r\n\r\n",
        b"FROB / HTTP/1.1\r\nHost: other.test\r\n\r\n",
        b"\r\n\r\nGET / HTTP/1.1\r\nHost: other.test\r\n\r\n",
        b"GET /\xc3\xa4 HTTP/1.1\r\nHost: other.test\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: ok.test\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n\
          GET /x HTTP/1.1\r\nHost: other.test\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: other.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    ];
    let attempts = whole.iter().map(|request| vec![*request]).chain([split]);
    for parts in attempts {
        let answer = exchange(&rig, ok, &parts)?;
        // A response of the server itself would contain its address.
        ensure!(
            !answer.contains("\"address\""),
            "{:?} was answered: {answer}",
            String::from_utf8_lossy(&parts.concat())
        );
    }
    ensure!(capture.to(site::OTHER).is_empty(), "{:?}", capture.to(site::OTHER));
    Ok(())
}

fn requests_arrive_unchanged() -> Result<()> {
    let (rig, _sidecar, ok) = with_one_name()?;
    for line in
        ["GET //a/%2e%2e/../c;d?e=%2F&f HTTP/1.1", "FROB /x HTTP/1.1", "DELETE /%zz HTTP/1.1"]
    {
        let request = format!("{line}\r\nhOsT: OK.test\r\n\r\n");
        let answer = exchange(&rig, ok, &[request.as_bytes()])?;
        let (_, body) =
            answer.split_once("\r\n\r\n").with_context(|| format!("{line}: {answer}"))?;
        let body: serde_json::Value =
            serde_json::from_str(body).with_context(|| format!("{line}: {answer}"))?;
        ensure!(body["request"] == line && body["host"] == "OK.test", "{line}: {body}");
    }
    let upgraded = exchange(
        &rig,
        ok,
        &[
            b"GET / HTTP/1.1\r\nHost: ok.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            b"any bytes",
        ],
    )?;
    ensure!(upgraded.starts_with("HTTP/1.1 101") && upgraded.ends_with("any bytes"), "{upgraded}");
    Ok(())
}

/// Sends a request to a test server that always sends `response`, and returns the reply.
fn answered(rig: &Rig, request: &str, response: Vec<u8>) -> Result<String> {
    let server = rig.serve(site::OK, move |mut stream| {
        let _request = head(&mut stream)?;
        stream.write_all(&response)?;
        // The server does not close the connection: the response delimits itself.
        drop(head(&mut stream));
        Ok(())
    })?;
    rig.sandbox.enter(|| {
        let mut stream = TcpStream::connect(server.address())?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.write_all(request.as_bytes())?;
        let (head, mut body) =
            head(&mut stream)?.with_context(|| format!("no response: {request}"))?;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.map_or(Ok(0), str::parse)?;
        while body.len() < length {
            let mut more = [0; 1024];
            let read = stream.read(&mut more)?;
            ensure!(read > 0, "the response has no end: {head}");
            body.extend_from_slice(&more[..read]);
        }
        Ok(head + &String::from_utf8_lossy(&body))
    })?
}

fn responses_may_have_many_fields() -> Result<()> {
    let (rig, _sidecar) = with(json!({ "deny_out": ["unrelated.test"] }))?;
    for count in [120, 900] {
        let fields: String = (0..count).map(|at| format!("x-field-{at}: {at}\r\n")).collect();
        let response = format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n{fields}\r\n");
        let got = answered(&rig, "GET / HTTP/1.1\r\nHost: ok.test\r\n\r\n", response.into_bytes())?;
        let last = format!("x-field-{}: ", count - 1);
        ensure!(got.starts_with("HTTP/1.1 200 ") && got.contains(&last), "{count} fields: {got}");
    }
    let fields: String = (0..1_100).map(|at| format!("x-field-{at}: {at}\r\n")).collect();
    let response = format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n{fields}\r\n");
    let got = answered(&rig, "GET / HTTP/1.1\r\nHost: ok.test\r\n\r\n", response.into_bytes())?;
    ensure!(got.starts_with("HTTP/1.1 502 ") && got.contains("EGRESS_INVALID"), "{got}");
    Ok(())
}

/// A server without WebSocket support responds as to any other request.
fn an_upgrade_with_an_ordinary_response_arrives_complete() -> Result<()> {
    let (rig, _sidecar) = with(json!({ "deny_out": ["unrelated.test"] }))?;
    for (status, kind) in ["200 OK", "204 No Content", "302 Found", "401 No", "426 No", "503 No"]
        .into_iter()
        .flat_map(|status| [(status, "websocket"), (status, "WebSocket"), (status, "tcp")])
    {
        let request = format!(
            "GET /w HTTP/1.1\r\nHost: ok.test\r\nConnection: Upgrade\r\nUpgrade: {kind}\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        let body = if status.starts_with("204") { "" } else { "hello" };
        let length = match body.len() {
            0 => String::new(),
            length => format!("content-length: {length}\r\n"),
        };
        let response = format!("HTTP/1.1 {status}\r\ncontent-type: text/x\r\n{length}\r\n{body}");
        let got = answered(&rig, &request, response.into_bytes())?;
        let starts = got.starts_with(&format!("HTTP/1.1 {status}\r\n"));
        let whole =
            got.contains("content-type: text/x\r\n") && got.ends_with(&format!("\r\n\r\n{body}"));
        ensure!(starts && whole, "{kind}, {status}: {got}");
    }
    Ok(())
}

/// Servers may ignore an offered upgrade to TLS.
fn a_request_that_offers_an_upgrade_to_tls_is_not_refused() -> Result<()> {
    let (rig, _sidecar) = with(json!({ "deny_out": ["unrelated.test"] }))?;
    let response = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello".to_vec();
    for upgrade in ["TLS/1.2", "tls/1.0", "h2c"] {
        let request = format!(
            "GET / HTTP/1.1\r\nHost: ok.test\r\nConnection: Upgrade\r\nUpgrade: {upgrade}\r\n\r\n"
        );
        let got = answered(&rig, &request, response.clone())?;
        ensure!(got.starts_with("HTTP/1.1 200 ") && got.ends_with("hello"), "{upgrade}: {got}");
    }
    Ok(())
}
