//! Text protocols while a rule names a domain: they are not delayed, and HTTP can't pass as one of them.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use sandgate_egress_tests::{Rig, site};
use serde_json::json;

use crate::support::{is_answered_with, tests, with};

tests![
    a_word_without_a_line_end_is_forwarded,
    a_late_request_sent_byte_by_byte_never_arrives_complete,
];

/// Longer than the inspection waits for the first bytes.
const LATE: Duration = Duration::from_millis(400);

fn a_word_without_a_line_end_is_forwarded() -> Result<()> {
    let (rig, _sidecar) = with(json!({ "deny_out": ["bad.test"] }))?;
    for word in ["LOGIN", "ping", "GET", "two words", "a"] {
        let spent = rig.sandbox.tcp(site::OTHER, site::ECHO_PORT, word.as_bytes())?;
        is_answered_with(word, &spent, word.as_bytes())?;
    }
    Ok(())
}

fn a_late_request_sent_byte_by_byte_never_arrives_complete() -> Result<()> {
    let (rig, _sidecar) = with(json!({ "deny_out": ["bad.test"] }))?;
    for request in
        ["get / http/1.1\r\nhost: bad.test\r\n\r\n", "A / HTTP/1.1\r\nHost: bad.test\r\n\r\n"]
    {
        let arrived = dribble(&rig, request.as_bytes())?;
        let arrived = String::from_utf8_lossy(&arrived).to_ascii_uppercase();
        ensure!(!arrived.contains("HTTP/"), "`{arrived}` of `{request}` arrived");
        ensure!(!arrived.is_empty(), "nothing was let out, and so nothing was shown");
    }
    Ok(())
}

/// Connects, waits, and sends byte by byte until the connection ends. Returns the echo, which shows the bytes that
/// arrived.
fn dribble(rig: &Rig, bytes: &[u8]) -> Result<Vec<u8>> {
    rig.sandbox.enter(|| -> Result<Vec<u8>> {
        let mut stream = TcpStream::connect(SocketAddr::new(site::OTHER, site::ECHO_PORT))?;
        stream.set_nodelay(true)?;
        std::thread::sleep(LATE);
        stream.set_read_timeout(Some(Duration::from_millis(100)))?;
        let mut arrived = Vec::new();
        for byte in bytes {
            if stream.write_all(&[*byte]).is_err() {
                return Ok(arrived);
            }
            let mut buffer = [0; 64];
            match stream.read(&mut buffer) {
                Ok(0) => return Ok(arrived),
                Ok(length) => arrived.extend(buffer.iter().take(length)),
                // Reset, or still in flight.
                Err(_) => {}
            }
        }
        bail!("a connection that had sent a whole request was still open")
    })?
}
