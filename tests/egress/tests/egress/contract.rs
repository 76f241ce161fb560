//! The documented behaviour for users, case by case ("Outbound Internet Access").

use std::net::IpAddr;

use anyhow::{Result, ensure};
use sandgate_egress_tests::{Capture, Rig, site};
use serde_json::{Value, json};

use crate::support::{curl, dig, is_answered_with, refused_immediately, tests, with};

tests![
    by_default_the_internet_is_reachable_and_private_networks_are_not,
    only_listed_addresses_are_reachable_with_internet_off,
    a_denied_name_is_blocked_and_another_host_answers,
    allow_out_comes_before_deny_out,
    an_operator_may_reverse_the_order_of_the_rules,
];

/// Ensures that an address is reached over each protocol that needs no name.
fn is_reached(rig: &Rig, address: IpAddr) -> Result<()> {
    is_answered_with(
        "banner",
        &rig.sandbox.tcp(address, site::BANNER_PORT, b"")?,
        site::BANNER.as_bytes(),
    )?;
    is_answered_with("udp", &rig.sandbox.udp(address, site::UDP_PORT, b"hello")?, b"hello")?;
    ensure!(rig.sandbox.ping(address)?.outcome.is_answered(), "ping {address}");
    Ok(())
}

/// Ensures that an address is refused over each of these protocols, and receives nothing.
fn is_refused(rig: &Rig, capture: &Capture, address: IpAddr) -> Result<()> {
    refused_immediately("tcp", || rig.sandbox.tcp(address, site::HTTP_PORT, b""))?;
    refused_immediately("udp", || rig.sandbox.udp(address, site::UDP_PORT, b"hello"))?;
    refused_immediately("ping", || rig.sandbox.ping(address))?;
    ensure!(capture.to(address).is_empty(), "{address} saw {:?}", capture.to(address));
    Ok(())
}

fn by_default_the_internet_is_reachable_and_private_networks_are_not() -> Result<()> {
    let (rig, _sidecar) = with(json!({}))?;
    let capture = rig.capture()?;
    for address in [site::OK, site::OK6] {
        is_reached(&rig, address)?;
    }
    ensure!(dig(&rig, site::RESOLVER, &["ok.test", "A", "+short"])?.contains("203.0.113.10"));
    let answer: Value = serde_json::from_str(&curl(&rig, &["http://ok.test/path?query"])?)?;
    ensure!(
        answer["request"] == "GET /path?query HTTP/1.1" && answer["host"] == "ok.test",
        "{answer}"
    );
    let answer: Value = serde_json::from_str(&curl(&rig, &["https://ok.test/"])?)?;
    ensure!(answer["sni"] == "ok.test", "{answer}");
    for address in [site::PRIVATE, site::METADATA] {
        is_refused(&rig, &capture, address)?;
    }
    Ok(())
}

fn only_listed_addresses_are_reachable_with_internet_off() -> Result<()> {
    let (rig, _sidecar) =
        with(json!({ "allow_internet_access": false, "allow_out": ["10.0.0.0/8", "8.8.8.8"] }))?;
    let capture = rig.capture()?;
    for address in [site::PRIVATE, site::PUBLIC_RESOLVER] {
        is_reached(&rig, address)?;
    }
    // DNS to 8.8.8.8 is a listed destination like any other; other resolvers are not.
    for transport in ["+notcp", "+tcp"] {
        let said = dig(&rig, site::PUBLIC_RESOLVER, &["ok.test", "A", transport])?;
        ensure!(said.contains("203.0.113.10"), "dig @8.8.8.8 {transport}: {said}");
        let said = dig(&rig, site::RESOLVER, &["ok.test", "A", transport])?;
        ensure!(said.contains("status: NXDOMAIN"), "dig {transport}: {said}");
    }
    for address in [site::OK, site::OK6, site::METADATA] {
        is_refused(&rig, &capture, address)?;
    }
    Ok(())
}

fn a_denied_name_is_blocked_and_another_host_answers() -> Result<()> {
    let (rig, _sidecar) = with(json!({ "deny_out": ["example.com"] }))?;
    let capture = rig.capture()?;
    let said = curl(&rig, &["https://example.com/"])
        .map_or_else(|error| error.to_string(), |_| String::new());
    ensure!(said.contains("Could not resolve host"), "curl https://example.com: {said}");
    let answer: Value = serde_json::from_str(&curl(&rig, &["https://other.test/"])?)?;
    ensure!(answer["sni"] == "other.test", "{answer}");
    // Names below it are different names.
    let answer: Value = serde_json::from_str(&curl(&rig, &["http://www.example.com/"])?)?;
    ensure!(answer["host"] == "www.example.com", "{answer}");
    // A client that uses the address, and shows the name.
    let capture_before = capture.to(site::EXAMPLE).len();
    let said = curl(&rig, &["--resolve", "example.com:443:203.0.113.66", "https://example.com/"]);
    ensure!(said.is_err(), "curl with the address of example.com: {said:?}");
    let answer = curl(&rig, &["--resolve", "example.com:80:203.0.113.66", "http://example.com/"])?;
    let answer: Value = serde_json::from_str(&answer)?;
    ensure!(
        answer["code"] == "EGRESS_DENIED" && answer["rule"] == "deny_out example.com",
        "{answer}"
    );
    let after = capture.to(site::EXAMPLE).len();
    ensure!(after == capture_before, "the denied destination saw {:?}", capture.to(site::EXAMPLE));
    Ok(())
}

fn allow_out_comes_before_deny_out() -> Result<()> {
    let (rig, _sidecar) = with(
        json!({ "allow_out": ["203.0.113.10", "www.example.com"], "deny_out": ["203.0.113.0/24", "*.example.com"] }),
    )?;
    is_answered_with(
        "allowed",
        &rig.sandbox.tcp(site::OK, site::BANNER_PORT, b"")?,
        site::BANNER.as_bytes(),
    )?;
    refused_immediately("denied", || rig.sandbox.tcp(site::OTHER, site::BANNER_PORT, b""))?;
    let answer: Value = serde_json::from_str(&curl(&rig, &["http://www.example.com/"])?)?;
    ensure!(answer["host"] == "www.example.com", "{answer}");
    Ok(())
}

fn an_operator_may_reverse_the_order_of_the_rules() -> Result<()> {
    let mut setup = sandgate_egress_tests::Setup::new(
        json!({ "allow_out": ["203.0.113.10", "203.0.113.20"], "deny_out": ["203.0.113.10"] }),
    );
    setup.operator["rule_order"] = json!("deny_first");
    let (rig, _sidecar) = crate::support::with_setup(&setup)?;
    refused_immediately("denied", || rig.sandbox.tcp(site::OK, site::BANNER_PORT, b""))?;
    refused_immediately("denied", || rig.sandbox.udp(site::OK, site::UDP_PORT, b"hello"))?;
    is_answered_with(
        "allowed",
        &rig.sandbox.tcp(site::OTHER, site::BANNER_PORT, b"")?,
        site::BANNER.as_bytes(),
    )
}
