//! Retries: a server closes an idle connection while the next request is in flight. The request is retried only if a
//! repeated request has no other effect. Counted at the server.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use sandgate_egress_tests::custom_server::head;
use sandgate_egress_tests::{CustomServer, Rig, site};
use serde_json::json;

use crate::support::{tests, with};

tests![
    a_safe_request_is_retried_if_the_connection_broke_before_a_response,
    no_other_request_is_retried,
    a_request_is_not_retried_after_its_response_has_started,
    a_request_is_retried_only_once,
];

/// The safe methods (RFC 9110, section 9.2.1), and other methods.
const SAFE: [&str; 4] = ["GET", "HEAD", "OPTIONS", "TRACE"];
const OTHERS: [&str; 8] = ["POST", "PUT", "DELETE", "PATCH", "PROPFIND", "FROB", "get", "GETS"];

/// A server's behaviour at the second request of a connection, and at those after it.
#[derive(Clone, Copy)]
struct Ending {
    /// The bytes that it sends before it closes the connection.
    says: &'static [u8],
    /// If true, it treats the first request of a later connection in the same way.
    always: bool,
}

/// A server that responds to the first request of a connection, and records the paths of all requests.
struct Flaky {
    server: CustomServer,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Flaky {
    fn start(rig: &Rig, ending: Ending) -> Result<Self> {
        let requests = Arc::<Mutex<Vec<String>>>::default();
        let log = Arc::clone(&requests);
        let server = rig.serve(site::OK, move |mut stream| {
            let mut is_first = true;
            while let Some((request, _)) = head(&mut stream)? {
                let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
                let is_second = path.starts_with("/second");
                log.lock().unwrap_or_else(PoisonError::into_inner).push(path);
                if is_second && (ending.always || !is_first) {
                    stream.write_all(ending.says)?;
                    break;
                }
                is_first = false;
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx-served: yes\r\n\r\n")?;
            }
            Ok(stream.shutdown(Shutdown::Both)?)
        })?;
        Ok(Self { server, requests })
    }

    /// Sends two requests on one connection. Returns the reply to the second one, and the number of times that the
    /// server received it.
    fn second(&self, rig: &Rig, method: &str) -> Result<(String, usize)> {
        let path = format!("/second-{method}-{}", self.server.accepted());
        let answer = rig.sandbox.enter(|| -> Result<String> {
            let mut stream = TcpStream::connect(self.server.address())?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            let host = self.server.address();
            write!(stream, "GET /first HTTP/1.1\r\nHost: {host}\r\n\r\n")?;
            let (first, _) = head(&mut stream)?.context("no first response")?;
            ensure!(first.starts_with("HTTP/1.1 200 "), "the first response: {first}");
            write!(
                stream,
                "{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n"
            )?;
            let Some((answer, mut rest)) = head(&mut stream)? else { return Ok(String::new()) };
            while method != "HEAD" && answer.contains("application/json") && !rest.ends_with(b"}\n")
            {
                let mut more = [0; 4096];
                let length = stream.read(&mut more)?;
                ensure!(length > 0, "the response has no end: {answer}");
                rest.extend_from_slice(&more[..length]);
            }
            Ok(answer + &String::from_utf8_lossy(&rest))
        })??;
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        Ok((answer, requests.iter().filter(|seen| **seen == path).count()))
    }
}

/// A rig with a policy that names a domain, so that plain HTTP is inspected.
fn rig() -> Result<(Rig, sandgate_egress_tests::Sidecar)> {
    with(json!({ "deny_out": ["unrelated.test"] }))
}

fn a_safe_request_is_retried_if_the_connection_broke_before_a_response() -> Result<()> {
    let (rig, _sidecar) = rig()?;
    let server = Flaky::start(&rig, Ending { says: b"", always: false })?;
    for method in SAFE {
        let (answer, seen) = server.second(&rig, method)?;
        ensure!(
            answer.starts_with("HTTP/1.1 200 ") && seen == 2,
            "{method}: {seen} times, {answer}"
        );
    }
    Ok(())
}

fn no_other_request_is_retried() -> Result<()> {
    let (rig, _sidecar) = rig()?;
    let server = Flaky::start(&rig, Ending { says: b"", always: false })?;
    for method in OTHERS {
        let (answer, seen) = server.second(&rig, method)?;
        ensure!(
            answer.starts_with("HTTP/1.1 502 ") && seen == 1,
            "{method}: {seen} times, {answer}"
        );
        ensure!(answer.contains("EGRESS_RESET"), "{method}: {answer}");
    }
    Ok(())
}

fn a_request_is_not_retried_after_its_response_has_started() -> Result<()> {
    let (rig, _sidecar) = rig()?;
    for says in [
        &b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhal"[..],
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel",
        b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 503 No\r\ncontent-length: 0\r\nretry-after: 1\r\n\r\n",
    ] {
        let server = Flaky::start(&rig, Ending { says, always: false })?;
        for method in SAFE {
            let (_, seen) = server.second(&rig, method)?;
            ensure!(seen == 1, "{method}: {seen} times, of {:?}", String::from_utf8_lossy(says));
        }
    }
    Ok(())
}

fn a_request_is_retried_only_once() -> Result<()> {
    let (rig, _sidecar) = rig()?;
    let server = Flaky::start(&rig, Ending { says: b"", always: true })?;
    for method in SAFE {
        let (answer, seen) = server.second(&rig, method)?;
        ensure!(
            answer.starts_with("HTTP/1.1 502 ") && seen == 2,
            "{method}: {seen} times, {answer}"
        );
    }
    Ok(())
}
