//! Unusual TLS ClientHellos: fragmented, oversized, or late. Their server names are evaluated all the same.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Result, ensure};
use sandgate_egress_tests::{ClientHello, Rig, site};
use serde_json::json;

use crate::support::{tests, with};

tests![a_denied_server_name_is_recognized_in_every_encoding, other_server_names_pass_byte_for_byte];

/// The way in which a ClientHello is sent.
pub(crate) struct Manner {
    what: &'static str,
    /// Bytes of padding in the ClientHello.
    padding: usize,
    /// The bytes of each record, and of each segment.
    record: usize,
    segment: usize,
    /// The time that the client waits before it.
    silence: Duration,
}

pub(crate) const MANNERS: [Manner; 8] = [
    Manner {
        what: "at once",
        padding: 0,
        record: 16_000,
        segment: 100_000,
        silence: Duration::ZERO,
    },
    Manner {
        what: "in many segments",
        padding: 0,
        record: 16_000,
        segment: 7,
        silence: Duration::ZERO,
    },
    Manner {
        what: "in records of one byte",
        padding: 0,
        record: 1,
        segment: 100_000,
        silence: Duration::ZERO,
    },
    Manner {
        what: "over 1,024 bytes",
        padding: 2_000,
        record: 16_000,
        segment: 1_000,
        silence: Duration::ZERO,
    },
    Manner {
        what: "over 16 KiB",
        padding: 20_000,
        record: 16_000,
        segment: 4_000,
        silence: Duration::ZERO,
    },
    Manner {
        what: "over 16 KiB, at once",
        padding: 20_000,
        record: 16_000,
        segment: 100_000,
        silence: Duration::ZERO,
    },
    Manner {
        what: "of 50 KiB, at once, in small records",
        padding: 50_000,
        record: 300,
        segment: 100_000,
        silence: Duration::ZERO,
    },
    Manner {
        what: "late",
        padding: 0,
        record: 16_000,
        segment: 100,
        silence: Duration::from_millis(400),
    },
];

/// A ClientHello for a name, in records.
pub(crate) fn hello(name: &str, manner: &Manner) -> Result<Vec<u8>> {
    let hello = ClientHello::default().padding(manner.padding)?;
    hello.server_names(&[name.as_bytes()])?.records(manner.record)
}

/// Sends bytes in this manner, and returns those that the echo service sends back.
fn echoed(rig: &Rig, address: IpAddr, bytes: &[u8], manner: &Manner) -> Result<Vec<u8>> {
    rig.sandbox.enter(|| {
        let mut stream = TcpStream::connect_timeout(
            &SocketAddr::new(address, site::ECHO_PORT),
            Duration::from_secs(5),
        )?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        std::thread::sleep(manner.silence);
        let mut echo = Vec::new();
        // A connection that closes in the meantime echoes nothing.
        if bytes.chunks(manner.segment).try_for_each(|part| stream.write_all(part)).is_ok() {
            let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            let _ = stream.take(length).read_to_end(&mut echo);
        }
        Ok(echo)
    })?
}

fn a_denied_server_name_is_recognized_in_every_encoding() -> Result<()> {
    let (rig, _sidecar) = with(json!({ "deny_out": ["example.com"] }))?;
    for manner in &MANNERS {
        for name in ["example.com", "EXAMPLE.com."] {
            // Not at its own address, where the name is not required.
            let echo = echoed(&rig, site::OTHER, &hello(name, manner)?, manner)?;
            ensure!(echo.is_empty(), "{name} {}: {} bytes came back", manner.what, echo.len());
        }
    }
    Ok(())
}

fn other_server_names_pass_byte_for_byte() -> Result<()> {
    let (rig, _sidecar) = with(json!({ "deny_out": ["example.com"] }))?;
    for manner in &MANNERS {
        let sent = hello("other.test", manner)?;
        let echo = echoed(&rig, site::OTHER, &sent, manner)?;
        ensure!(echo == sent, "{}: {} of {} bytes came back", manner.what, echo.len(), sent.len());
    }
    Ok(())
}
