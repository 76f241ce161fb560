//! Allowed names with internet access off: any protocol reaches an allowed name, and nothing else.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use sandgate_egress_tests::{Rig, site};
use serde_json::{Value, json};

use crate::support::{curl, dig, is_answered_with, refused_immediately, tests, with};

tests![
    a_plain_tcp_service_is_reached_by_its_name_and_no_other_is,
    names_below_a_wildcard_are_reached_if_the_connection_shows_them,
    a_name_that_resolves_to_a_guardrail_address_is_not_reached,
    upper_case_and_a_trailing_dot_are_the_same_name,
    internationalized_names_are_reached_in_their_ascii_form,
    a_name_without_an_address_is_resolved_again_soon,
];

/// The address to which a name resolves in the sandbox.
fn resolved(rig: &Rig, name: &str, kind: &str) -> Result<IpAddr> {
    let said = dig(rig, site::RESOLVER, &[name, kind, "+short"])?;
    said.trim().parse().with_context(|| format!("{name} {kind}: `{said}`"))
}

fn a_plain_tcp_service_is_reached_by_its_name_and_no_other_is() -> Result<()> {
    let (rig, _sidecar) =
        with(json!({ "allow_internet_access": false, "allow_out": ["ok.test"] }))?;
    let capture = rig.capture()?;
    for kind in ["A", "AAAA"] {
        let address = resolved(&rig, "ok.test", kind)?;
        let spent = rig.sandbox.tcp(address, site::BANNER_PORT, b"")?;
        is_answered_with(&format!("{address}"), &spent, site::BANNER.as_bytes())?;
        let spent = rig.sandbox.tcp(address, site::ECHO_PORT, b"\x00any protocol")?;
        is_answered_with(&format!("{address}"), &spent, b"\x00any protocol")?;
        // The name is reachable only over TCP: there is no proxy for UDP that would resolve it.
        refused_immediately("udp", || rig.sandbox.udp(address, site::UDP_PORT, b"hello"))?;
    }
    let answer: Value = serde_json::from_str(&curl(&rig, &["https://ok.test/"])?)?;
    ensure!(answer["sni"] == "ok.test" && answer["address"] == site::OK.to_string(), "{answer}");
    for name in ["other.test", "a.ok.test", "xok.test", "test"] {
        let said = dig(&rig, site::RESOLVER, &[name, "A"])?;
        ensure!(said.contains("status: NXDOMAIN"), "{name}: {said}");
    }
    // The name's own address is not allowed: only the name is.
    for address in [site::OK, site::OTHER, site::OK6] {
        refused_immediately("by address", || rig.sandbox.tcp(address, site::BANNER_PORT, b""))?;
    }
    for address in [site::OTHER, site::OTHER6] {
        ensure!(capture.to(address).is_empty(), "{address} saw {:?}", capture.to(address));
    }
    let asked: Vec<String> =
        rig.served.questions().into_iter().map(|question| question.name).collect();
    ensure!(asked.iter().all(|name| name == "ok.test"), "resolvers were asked {asked:?}");
    Ok(())
}

fn names_below_a_wildcard_are_reached_if_the_connection_shows_them() -> Result<()> {
    let (rig, _sidecar) =
        with(json!({ "allow_internet_access": false, "allow_out": ["*.ok.test"] }))?;
    for name in ["a.ok.test", "deep.a.ok.test"] {
        let answer: Value = serde_json::from_str(&curl(&rig, &[&format!("http://{name}/")])?)?;
        ensure!(answer["host"] == name && answer["address"] == site::OK.to_string(), "{answer}");
        // (The rig's certificate has no name two labels below.)
        let answer: Value =
            serde_json::from_str(&curl(&rig, &["-k", &format!("https://{name}/")])?)?;
        ensure!(answer["sni"] == name, "{answer}");
    }
    // The apex is not below itself, and a connection that shows no name could be for any name.
    ensure!(dig(&rig, site::RESOLVER, &["ok.test", "A"])?.contains("status: NXDOMAIN"));
    let shared = resolved(&rig, "a.ok.test", "A")?;
    let nameless = || rig.sandbox.tcp(shared, site::BANNER_PORT, b"no name in here\r\n");
    refused_immediately("no name", nameless)?;
    Ok(())
}

fn a_name_that_resolves_to_a_guardrail_address_is_not_reached() -> Result<()> {
    let (rig, _sidecar) = with(
        json!({ "allow_internet_access": false, "allow_out": ["*.ok.test", "meta.test", "private.test"] }),
    )?;
    let capture = rig.capture()?;
    for name in ["meta.test", "private.test", "rebind.ok.test", "inside.ok.test"] {
        for url in [format!("http://{name}/"), format!("https://{name}/")] {
            let got = curl(&rig, &["-k", "-f", &url]);
            ensure!(got.is_err(), "{url}: {got:?}");
        }
    }
    for address in [site::METADATA, site::PRIVATE] {
        ensure!(capture.to(address).is_empty(), "{address} saw {:?}", capture.to(address));
    }
    // The owner can allow the private address, but nobody can allow a guardrail.
    drop(rig);
    let (rig, _sidecar) = with(json!({
        "allow_internet_access": false, "allow_out": ["private.test", "meta.test", "10.0.0.0/8", "169.254.0.0/16"],
    }))?;
    let capture = rig.capture()?;
    let answer: Value = serde_json::from_str(&curl(&rig, &["http://private.test/"])?)?;
    ensure!(answer["address"] == site::PRIVATE.to_string(), "{answer}");
    ensure!(curl(&rig, &["-f", "http://meta.test/"]).is_err());
    ensure!(
        capture.to(site::METADATA).is_empty(),
        "the destination received {:?}",
        capture.to(site::METADATA)
    );
    Ok(())
}

fn upper_case_and_a_trailing_dot_are_the_same_name() -> Result<()> {
    let (rig, _sidecar) = with(json!({ "deny_out": ["example.com", "203.0.113.20"] }))?;
    for name in ["EXAMPLE.com", "example.com.", "eXample.COM."] {
        for transport in ["+notcp", "+tcp"] {
            let said = dig(&rig, site::RESOLVER, &[name, "A", transport])?;
            ensure!(said.contains("status: NXDOMAIN"), "{name}: {said}");
        }
        let host = format!("Host: {name}");
        let answer = curl(&rig, &["-H", &host, "http://203.0.113.66/"])?;
        ensure!(answer.contains("EGRESS_DENIED"), "{name}: {answer}");
    }
    // Nor by another name that resolves to it.
    let said = dig(&rig, site::RESOLVER, &["alias.test", "A"])?;
    ensure!(!said.contains("203.0.113.66"), "{said}");
    drop(rig);
    let (rig, _sidecar) =
        with(json!({ "allow_internet_access": false, "allow_out": ["ok.test"] }))?;
    for name in ["OK.test", "ok.test."] {
        let answer: Value = serde_json::from_str(&curl(&rig, &[&format!("http://{name}/")])?)?;
        ensure!(answer["address"] == site::OK.to_string(), "{name}: {answer}");
    }
    Ok(())
}

fn internationalized_names_are_reached_in_their_ascii_form() -> Result<()> {
    let (rig, _sidecar) =
        with(json!({ "allow_internet_access": false, "allow_out": ["xn--bcher-kva.test"] }))?;
    let answer: Value = serde_json::from_str(&curl(&rig, &["http://xn--bcher-kva.test/"])?)?;
    ensure!(answer["host"] == "xn--bcher-kva.test", "{answer}");
    Ok(())
}

/// A deployment creates a name a moment after a client has queried it.
fn a_name_without_an_address_is_resolved_again_soon() -> Result<()> {
    /// Envoy's default is a minute.
    const SOON: Duration = Duration::from_secs(15);
    let (rig, _sidecar) =
        with(json!({ "allow_internet_access": false, "allow_out": ["*.ok.test"] }))?;
    let shared = resolved(&rig, "a.ok.test", "A")?;
    let ask = || -> Result<String> {
        let request = b"GET / HTTP/1.1\r\nHost: new.ok.test\r\n\r\n";
        let spent = rig.sandbox.tcp(shared, site::HTTP_PORT, request)?;
        spent.outcome.text().with_context(|| format!("{spent:?}"))
    };
    let first = ask()?;
    ensure!(first.contains("EGRESS_UNREACHABLE"), "{first}");
    rig.served.set_address("new.ok.test.", 60, site::OK)?;
    let begun = Instant::now();
    while !ask()?.starts_with("HTTP/1.1 200 ") {
        ensure!(begun.elapsed() < SOON, "the name is not asked for again");
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}
