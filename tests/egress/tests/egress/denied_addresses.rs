//! The addresses of denied names: connections to them that show no name are denied.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use sandgate_egress_tests::{Outcome, Rig, Spent, site};
use serde_json::{Value, json};

use crate::support::{curl, dig, is_answered_with, refused_immediately, tests, with};

tests![
    the_raw_address_of_a_denied_name_is_denied_and_other_sites_there_are_not,
    a_new_address_of_a_denied_name_is_denied_soon_and_other_connections_continue,
    an_address_observed_through_an_alias_of_a_denied_wildcard_is_denied,
];

/// Covers the time to live of the names, the agent's query timeout, and a busy machine.
const SOON: Duration = Duration::from_secs(40);

fn banner(rig: &Rig, address: IpAddr) -> Result<Spent> {
    rig.sandbox.tcp(address, site::BANNER_PORT, b"")
}

fn until_refused(rig: &Rig, address: IpAddr) -> Result<()> {
    let begun = Instant::now();
    loop {
        let spent = banner(rig, address)?;
        if spent.outcome.is_refused() {
            return refused_immediately("no name", || banner(rig, address));
        }
        ensure!(begun.elapsed() < SOON, "{address} is still reached: {spent:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn the_raw_address_of_a_denied_name_is_denied_and_other_sites_there_are_not() -> Result<()> {
    let (rig, _sidecar) = with(json!({ "deny_out": ["example.com"] }))?;
    let capture = rig.capture()?;
    for address in [site::EXAMPLE, site::EXAMPLE6] {
        refused_immediately("a silent client", || banner(&rig, address))?;
        refused_immediately("another protocol", || {
            rig.sandbox.tcp(address, site::ECHO_PORT, b"\x00no name in here")
        })?;
        refused_immediately("udp", || rig.sandbox.udp(address, site::UDP_PORT, b"hello"))?;
        refused_immediately("ping", || rig.sandbox.ping(address))?;
    }
    let answer: Value = serde_json::from_str(&curl(&rig, &["http://203.0.113.66/"])?)?;
    ensure!(answer["rule"] == "deny_out example.com (203.0.113.66)", "{answer}");
    let said = curl(&rig, &["-k", "https://203.0.113.66/"]);
    ensure!(said.is_err(), "TLS without a name: {said:?}");
    for address in [site::EXAMPLE, site::EXAMPLE6] {
        ensure!(capture.to(address).is_empty(), "{address} saw {:?}", capture.to(address));
    }
    // Shared hosting: a connection that shows another name at that address is allowed.
    for url in ["https://good.test/", "http://good.test/"] {
        let at = |port: u16| format!("good.test:{port}:203.0.113.66");
        let (tls, plain) = (at(443), at(80));
        let arguments = ["-k", "--resolve", &tls, "--resolve", &plain, url];
        let answer: Value = serde_json::from_str(&curl(&rig, &arguments)?)?;
        ensure!(answer["address"] == site::EXAMPLE.to_string(), "{url}: {answer}");
    }
    for address in [site::OTHER, site::OTHER6] {
        is_answered_with("another address", &banner(&rig, address)?, site::BANNER.as_bytes())?;
        let spent = rig.sandbox.udp(address, site::UDP_PORT, b"hello")?;
        is_answered_with("another address", &spent, b"hello")?;
    }
    drop(rig);
    // An explicitly allowed address is allowed.
    let (rig, _sidecar) =
        with(json!({ "deny_out": ["example.com"], "allow_out": ["203.0.113.66"] }))?;
    is_answered_with("allowed", &banner(&rig, site::EXAMPLE)?, site::BANNER.as_bytes())?;
    refused_immediately("not allowed", || banner(&rig, site::EXAMPLE6))
}

fn a_new_address_of_a_denied_name_is_denied_soon_and_other_connections_continue() -> Result<()> {
    let rig = Rig::build()?;
    rig.served.set_address("moves.test.", 1, site::EXAMPLE)?;
    let setup = sandgate_egress_tests::Setup::new(json!({ "deny_out": ["moves.test"] }));
    let sidecar = sandgate_egress_tests::Sidecar::start(&rig, &setup)?;
    refused_immediately("where it is", || banner(&rig, site::EXAMPLE))?;
    let open = |address: IpAddr| -> Result<TcpStream> {
        let mut stream = rig.sandbox.enter(|| TcpStream::connect((address, site::ECHO_PORT)))??;
        stream.set_read_timeout(Some(SOON))?;
        echo(&mut stream)?;
        Ok(stream)
    };
    let (mut there, mut elsewhere) = (open(site::OTHER)?, open(site::OK)?);
    let before = sidecar.until_ready()?;
    rig.served.set_address("moves.test.", 1, site::OTHER)?;
    until_refused(&rig, site::OTHER)?;
    // Envoy, which denies TCP, applies the generation before nftables does.
    sidecar.until("in the next generation", |status| {
        (status["generation"] == before + 1).then_some(())
    })?;
    refused_immediately("udp", || rig.sandbox.udp(site::OTHER, site::UDP_PORT, b"hello"))?;
    // Existing connections to the address are closed.
    let gone = there.read(&mut [0; 8]);
    ensure!(!matches!(gone, Ok(1..)), "the connection got {gone:?}");
    echo(&mut elsewhere)?;
    // Clients may still use the old address. Each change causes one generation, and not one for each query.
    refused_immediately("where it was", || banner(&rig, site::EXAMPLE))?;
    std::thread::sleep(Duration::from_secs(8));
    let after = sidecar.until_ready()?;
    ensure!(after == before + 1, "from generation {before} to {after}");
    echo(&mut elsewhere)
}

/// Not text, because a possible request is inspected until the end of its line.
fn echo(stream: &mut TcpStream) -> Result<()> {
    stream.write_all(b"\x00still here")?;
    let mut back = [0; 11];
    stream.read_exact(&mut back)?;
    ensure!(back == *b"\x00still here");
    Ok(())
}

fn an_address_observed_through_an_alias_of_a_denied_wildcard_is_denied() -> Result<()> {
    let (rig, _sidecar) = with(json!({ "deny_out": ["*.example.com"] }))?;
    let spent = banner(&rig, site::EXAMPLE)?;
    ensure!(
        matches!(spent.outcome, Outcome::Answered(_)),
        "the address is not known yet: {spent:?}"
    );
    for name in ["www.example.com", "secret.example.com", "alias-www.test"] {
        let said = dig(&rig, site::RESOLVER, &[name, "A"])?;
        ensure!(said.contains("status: NXDOMAIN"), "{name}: {said}");
    }
    until_refused(&rig, site::EXAMPLE)?;
    let asked: Vec<String> =
        rig.served.questions().into_iter().map(|question| question.name).collect();
    ensure!(asked == ["alias-www.test"], "resolvers were asked {asked:?}");
    Ok(())
}
