//! Internet access on and no rules: everything that works without a sidecar works with it.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Shutdown, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use sandgate_egress_tests::servers::dns::{BIG, TTL};
use sandgate_egress_tests::{Rig, site};
use serde_json::json;

use crate::support::{dig, is_answered_with, tests, with};

tests![
    dns_responses_are_those_of_the_resolver,
    datagrams_of_all_sizes_and_pings_pass,
    bytes_pass_unchanged_and_half_closed_connections_continue,
    a_server_that_sends_first_is_not_delayed,
];

fn dns_responses_are_those_of_the_resolver() -> Result<()> {
    let (rig, _sidecar) = with(json!({}))?;
    for (name, kind, expected) in [
        ("ok.test", "A", "203.0.113.10"),
        ("ok.test", "AAAA", "2001:db8:c::10"),
        ("ok.test", "TXT", "v=rig"),
        ("ok.test", "MX", "10 a.ok.test."),
        ("_ssh._tcp.ok.test", "SRV", "1 1 22 ok.test."),
        ("alias.test", "A", "203.0.113.66"),
    ] {
        for server in [site::RESOLVER, site::RESOLVER6] {
            for transport in ["+notcp", "+tcp", "+noedns"] {
                let said = dig(&rig, server, &[name, kind, transport])?;
                ensure!(
                    said.contains(expected) && said.contains(&format!("\t{TTL}\t")),
                    "{name} {kind} {transport}: {said}"
                );
            }
        }
    }
    let said = dig(&rig, site::RESOLVER, &["nothing.test", "A"])?;
    ensure!(said.contains("status: NXDOMAIN"), "{said}");
    // A name without a record of this type still exists: NODATA and not NXDOMAIN.
    let said = dig(&rig, site::RESOLVER, &["a.ok.test", "AAAA"])?;
    ensure!(said.contains("status: NOERROR") && said.contains("ANSWER: 0"), "{said}");
    // Too large for a datagram: truncated over UDP, complete over TCP.
    let said = dig(&rig, site::RESOLVER, &["big.test", "A", "+noedns", "+ignore"])?;
    ensure!(said.contains(" tc "), "{said}");
    let said = dig(&rig, site::RESOLVER, &["big.test", "A", "+noedns", "+short"])?;
    ensure!(
        said.lines().filter(|line| line.starts_with("203.0.113.")).count() == usize::from(BIG),
        "{said}"
    );
    Ok(())
}

fn datagrams_of_all_sizes_and_pings_pass() -> Result<()> {
    let (rig, _sidecar) = with(json!({}))?;
    for address in [site::OK, site::OK6] {
        for size in [1, 512, 1_472, 1_500, 9_000, 60_000] {
            let message: Vec<u8> = (0..size).map(|at: u32| at.to_le_bytes()[0]).collect();
            let spent = rig.sandbox.udp(address, site::UDP_PORT, &message)?;
            is_answered_with(&format!("{size} bytes to {address}"), &spent, &message)?;
        }
        for size in ["56", "3000"] {
            rig.sandbox
                .run("ping", &["-n", "-c", "3", "-i", "0.1", "-s", size, &address.to_string()])?;
        }
    }
    Ok(())
}

fn bytes_pass_unchanged_and_half_closed_connections_continue() -> Result<()> {
    /// Bytes in each direction.
    const LENGTH: usize = 32 << 20;
    let (rig, _sidecar) = with(json!({}))?;
    for address in [site::OK, site::OK6] {
        let mut stream = connected(&rig, address, site::ECHO_PORT)?;
        let sent: Vec<u8> =
            (0..LENGTH / 8).flat_map(|at: usize| (at ^ (at << 23)).to_le_bytes()).collect();
        let mut received = Vec::with_capacity(LENGTH);
        std::thread::scope(|scope| -> Result<()> {
            let mut writer = stream.try_clone()?;
            let sent = &sent;
            let writing = scope.spawn(move || {
                writer.write_all(sent).and_then(|()| writer.shutdown(Shutdown::Write))
            });
            // The server continues after the client has closed its half.
            stream.read_to_end(&mut received)?;
            writing.join().map_err(|_| anyhow::anyhow!("the writer panicked"))?.context("writing")
        })?;
        ensure!(received == sent, "{} bytes came back, of {}", received.len(), sent.len());
    }
    Ok(())
}

fn connected(rig: &Rig, address: IpAddr, port: u16) -> Result<TcpStream> {
    let stream = rig.sandbox.enter(|| TcpStream::connect((address, port)))??;
    stream.set_read_timeout(Some(Duration::from_secs(120)))?;
    Ok(stream)
}

/// The shortest of several times until a banner arrives.
fn banner_after(rig: &Rig) -> Result<Duration> {
    let mut shortest = Duration::MAX;
    for _ in 0..8 {
        let begun = Instant::now();
        let spent = rig.sandbox.tcp(site::OK, site::BANNER_PORT, b"")?;
        is_answered_with("banner", &spent, site::BANNER.as_bytes())?;
        shortest = shortest.min(begun.elapsed());
    }
    Ok(shortest)
}

/// Inspection causes no delay if the policy names no domain, and at most 300 ms otherwise: the gateway waits 150 ms for
/// a name. The best of several attempts counts, because the machine may be busy.
fn a_server_that_sends_first_is_not_delayed() -> Result<()> {
    let (rig, sidecar) = with(json!({ "deny_out": ["203.0.113.20"] }))?;
    let without_names = banner_after(&rig)?;
    ensure!(without_names < Duration::from_millis(140), "{without_names:?}");
    sidecar.set(&json!({ "deny_out": ["example.com"] }))?;
    let with_names = banner_after(&rig)?;
    ensure!(with_names < Duration::from_millis(300), "{with_names:?}");
    // An address that is allowed by address needs no name.
    sidecar.set(&json!({ "allow_out": ["203.0.113.10"], "deny_out": ["example.com"] }))?;
    let listed = banner_after(&rig)?;
    ensure!(listed < Duration::from_millis(140), "{listed:?}");
    Ok(())
}
