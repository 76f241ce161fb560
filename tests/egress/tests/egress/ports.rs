//! Entries with ports: for names, addresses, and ranges, in both lists, over TCP and UDP.

use std::io::Read as _;
use std::net::{IpAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use sandgate_egress_tests::{Capture, Rig, Setup, site};
use serde_json::{Value, json};

use crate::support::{curl, dig, is_answered_with, refused_immediately, tests, with, with_setup};

tests![
    a_name_with_a_port_is_reached_on_this_port_only,
    names_below_a_wildcard_with_a_port_are_reached_on_this_port_only,
    an_address_with_a_port_is_reached_on_this_port_only,
    a_denied_port_of_an_address_denies_no_other_port,
    a_denied_port_of_a_name_denies_no_other_port,
    a_denial_without_a_port_applies_to_all_ports_that_no_permit_names,
    a_connection_to_a_port_that_an_update_denies_is_closed,
    a_resolver_is_queried_directly_if_port_53_is_allowed,
    ports_apply_in_a_shared_namespace_too,
    policies_with_many_ports_are_applied,
    a_name_that_is_denied_on_a_port_has_known_addresses_after_the_sandbox_has_queried_it,
];

/// Each server of an address that speaks neither TLS nor HTTP.
const SILENT: [u16; 2] = [site::BANNER_PORT, site::ECHO_PORT];

/// Ensures that no packet left for this address.
fn untouched(capture: &Capture, address: IpAddr) -> Result<()> {
    let seen = capture.to(address);
    ensure!(seen.is_empty(), "{address} saw {seen:?}");
    Ok(())
}

fn banner(rig: &Rig, address: IpAddr) -> Result<()> {
    let spent = rig.sandbox.tcp(address, site::BANNER_PORT, b"")?;
    is_answered_with(&format!("{address}"), &spent, site::BANNER.as_bytes())
}

fn echo(rig: &Rig, address: IpAddr) -> Result<()> {
    let spent = rig.sandbox.tcp(address, site::ECHO_PORT, b"\x00bytes")?;
    is_answered_with(&format!("{address}"), &spent, b"\x00bytes")
}

fn udp(rig: &Rig, address: IpAddr) -> Result<()> {
    let spent = rig.sandbox.udp(address, site::UDP_PORT, b"hello")?;
    is_answered_with(&format!("{address} udp"), &spent, b"hello")
}

fn no_tcp(rig: &Rig, address: IpAddr, port: u16) -> Result<()> {
    let what = format!("{address} port {port}");
    refused_immediately(&what, || rig.sandbox.tcp(address, port, b"\x00bytes"))
}

fn no_udp(rig: &Rig, address: IpAddr, port: u16) -> Result<()> {
    refused_immediately(&format!("{address} udp port {port}"), || {
        rig.sandbox.udp(address, port, b"hello")
    })
}

fn no_ping(rig: &Rig, address: IpAddr) -> Result<()> {
    refused_immediately(&format!("ping {address}"), || rig.sandbox.ping(address))
}

fn resolved(rig: &Rig, name: &str) -> Result<IpAddr> {
    let said = dig(rig, site::RESOLVER, &[name, "A", "+short"])?;
    said.trim().parse().with_context(|| format!("{name}: `{said}`"))
}

fn json_of(rig: &Rig, arguments: &[&str]) -> Result<Value> {
    let said = curl(rig, arguments)?;
    serde_json::from_str(&said).with_context(|| format!("{arguments:?}: {said}"))
}

fn a_name_with_a_port_is_reached_on_this_port_only() -> Result<()> {
    let (rig, sidecar) =
        with(json!({ "allow_internet_access": false, "allow_out": ["ok.test:443"] }))?;
    let capture = rig.capture()?;
    for address in [resolved(&rig, "ok.test")?, site::OK, site::OK6] {
        for port in SILENT {
            no_tcp(&rig, address, port)?;
        }
        for port in [site::UDP_PORT, site::QUIC_PORT] {
            no_udp(&rig, address, port)?;
        }
        no_ping(&rig, address)?;
    }
    // TLS and HTTP that show the name, on other ports, and with the allowed port in the Host.
    let refused = curl(&rig, &["--resolve", "ok.test:22:203.0.113.10", "https://ok.test:22/"]);
    ensure!(refused.is_err(), "{refused:?}");
    for host in ["ok.test", "ok.test:443"] {
        let answer = json_of(&rig, &["-H", &format!("Host: {host}"), "http://ok.test/"])?;
        ensure!(answer["rule"] == "default deny", "{host}: {answer}");
    }
    // An allowed server name on the allowed port does not carry a connection elsewhere.
    no_tcp(&rig, site::OTHER, site::HTTPS_PORT)?;
    for address in [site::OK, site::OK6, site::OTHER] {
        untouched(&capture, address)?;
    }
    // By the address that DNS answers, and by server name at any address.
    let answer = json_of(&rig, &["https://ok.test/"])?;
    ensure!(answer["sni"] == "ok.test" && answer["address"] == site::OK.to_string(), "{answer}");
    let answer = json_of(&rig, &["--resolve", "ok.test:443:203.0.113.20", "https://ok.test/"])?;
    ensure!(answer["address"] == site::OK.to_string(), "{answer}");
    untouched(&capture, site::OTHER)?;
    // Plain HTTP on its port.
    sidecar.set(&json!({ "allow_internet_access": false, "allow_out": ["ok.test:79-80"] }))?;
    let answer = json_of(&rig, &["http://ok.test/"])?;
    ensure!(answer["host"] == "ok.test", "{answer}");
    let answer = curl(&rig, &["https://ok.test/"]);
    ensure!(answer.is_err(), "{answer:?}");
    Ok(())
}

fn names_below_a_wildcard_with_a_port_are_reached_on_this_port_only() -> Result<()> {
    let policy =
        json!({ "allow_internet_access": false, "allow_out": ["*.ok.test:443", "b.test:22"] });
    let (rig, _sidecar) = with(policy)?;
    let answer = json_of(&rig, &["https://a.ok.test/"])?;
    ensure!(answer["sni"] == "a.ok.test", "{answer}");
    let answer = json_of(&rig, &["http://a.ok.test/"])?;
    ensure!(answer["code"] == "EGRESS_DENIED", "{answer}");
    let shared = resolved(&rig, "a.ok.test")?;
    for port in SILENT {
        no_tcp(&rig, shared, port)?;
    }
    let said = dig(&rig, site::RESOLVER, &["ok.test", "A"])?;
    ensure!(said.contains("status: NXDOMAIN"), "{said}");
    Ok(())
}

fn an_address_with_a_port_is_reached_on_this_port_only() -> Result<()> {
    let (rig, _sidecar) = with(json!({ "allow_internet_access": false, "allow_out": [
        "203.0.113.10:22", "203.0.113.10:5000", "203.0.113.20:1-21", "[2001:db8:c::10]:22",
        "[2001:db8:c::20]/127:5000",
    ] }))?;
    let capture = rig.capture()?;
    for address in [site::OK, site::OK6] {
        banner(&rig, address)?;
        no_tcp(&rig, address, site::ECHO_PORT)?;
        no_udp(&rig, address, site::QUIC_PORT)?;
        no_udp(&rig, address, site::BANNER_PORT)?;
        no_ping(&rig, address)?;
    }
    udp(&rig, site::OK)?;
    no_udp(&rig, site::OK6, site::UDP_PORT)?;
    udp(&rig, site::OTHER6)?;
    no_tcp(&rig, site::OTHER6, site::BANNER_PORT)?;
    echo(&rig, site::OTHER)?;
    no_tcp(&rig, site::OTHER, site::BANNER_PORT)?;
    no_udp(&rig, site::OTHER, site::UDP_PORT)?;
    // Plain HTTP to another port gets the reason.
    let answer = json_of(&rig, &["http://203.0.113.10/"])?;
    ensure!(answer["rule"] == "default deny", "{answer}");
    no_tcp(&rig, site::EXAMPLE, site::BANNER_PORT)?;
    untouched(&capture, site::EXAMPLE)?;
    Ok(())
}

fn a_denied_port_of_an_address_denies_no_other_port() -> Result<()> {
    let (rig, _sidecar) = with(json!({ "deny_out": [
        "203.0.113.10:22", "[2001:db8:c::10]:5000", "203.0.113.20:5000", "203.0.113.20:80",
    ] }))?;
    no_tcp(&rig, site::OK, site::BANNER_PORT)?;
    echo(&rig, site::OK)?;
    udp(&rig, site::OK)?;
    banner(&rig, site::OK6)?;
    no_udp(&rig, site::OK6, site::UDP_PORT)?;
    no_udp(&rig, site::OTHER, site::UDP_PORT)?;
    banner(&rig, site::OTHER)?;
    let answer = json_of(&rig, &["http://203.0.113.20/"])?;
    ensure!(answer["rule"] == "deny_out 203.0.113.20:80", "{answer}");
    for address in [site::OK, site::OTHER, site::OK6] {
        let spent = rig.sandbox.ping(address)?;
        ensure!(spent.outcome.is_answered(), "ping {address}: {:?}", spent.outcome);
    }
    Ok(())
}

fn a_denied_port_of_a_name_denies_no_other_port() -> Result<()> {
    let (rig, _sidecar) = with(json!({ "deny_out": ["example.com:22", "example.com:80"] }))?;
    // A connection that shows no name, at a known address of the name.
    for address in [site::EXAMPLE, site::EXAMPLE6] {
        no_tcp(&rig, address, site::BANNER_PORT)?;
        echo(&rig, address)?;
        udp(&rig, address)?;
    }
    let answer = json_of(&rig, &["http://example.com/"])?;
    ensure!(answer["rule"] == "deny_out example.com:80", "{answer}");
    let answer = json_of(&rig, &["-k", "https://example.com/"])?;
    ensure!(answer["sni"] == "example.com", "{answer}");
    Ok(())
}

fn a_denial_without_a_port_applies_to_all_ports_that_no_permit_names() -> Result<()> {
    let policy = json!({ "allow_out": ["203.0.113.10:22"], "deny_out": ["203.0.113.10"] });
    let (rig, sidecar) = with(policy.clone())?;
    banner(&rig, site::OK)?;
    no_tcp(&rig, site::OK, site::ECHO_PORT)?;
    no_udp(&rig, site::OK, site::UDP_PORT)?;
    no_udp(&rig, site::OK, site::BANNER_PORT + 1)?;
    no_ping(&rig, site::OK)?;
    drop((rig, sidecar));
    // If deny comes first, the port does not make the permit more important.
    let mut setup = Setup::new(policy);
    setup.operator["rule_order"] = json!("deny_first");
    let (rig, _sidecar) = with_setup(&setup)?;
    no_tcp(&rig, site::OK, site::BANNER_PORT)?;
    banner(&rig, site::OTHER)
}

fn a_connection_to_a_port_that_an_update_denies_is_closed() -> Result<()> {
    let allow = |entry: &str| json!({ "allow_internet_access": false, "allow_out": [entry] });
    let (rig, sidecar) = with(allow("203.0.113.10:7-22"))?;
    let connect = |port: u16| -> Result<TcpStream> {
        let stream = rig.sandbox.enter(|| TcpStream::connect((site::OK, port)))??;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        Ok(stream)
    };
    let (mut kept, mut ended) = (connect(site::BANNER_PORT)?, connect(site::ECHO_PORT)?);
    let mut first = [0];
    kept.read_exact(&mut first)?;
    sidecar.set(&allow("203.0.113.10:8-22"))?;
    let begun = Instant::now();
    let read = ended.read(&mut [0; 16]);
    ensure!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    ensure!(begun.elapsed() < Duration::from_secs(15), "it was not closed: {read:?}");
    let mut rest = vec![0; site::BANNER.len() - 1];
    kept.read_exact(&mut rest)?;
    no_tcp(&rig, site::OK, site::ECHO_PORT)
}

fn a_resolver_is_queried_directly_if_port_53_is_allowed() -> Result<()> {
    let allow = |entry: &str| json!({ "allow_internet_access": false, "allow_out": [entry] });
    let (rig, sidecar) = with(allow("8.8.8.8:443"))?;
    let said = dig(&rig, site::PUBLIC_RESOLVER, &["ok.test", "A"])?;
    ensure!(said.contains("status: NXDOMAIN"), "{said}");
    ensure!(rig.served.questions().is_empty(), "{:?}", rig.served.questions());
    sidecar.set(&allow("8.8.8.8:53"))?;
    let said = dig(&rig, site::PUBLIC_RESOLVER, &["ok.test", "A"])?;
    ensure!(said.contains(&site::OK.to_string()), "{said}");
    no_tcp(&rig, site::PUBLIC_RESOLVER, site::BANNER_PORT)
}

fn ports_apply_in_a_shared_namespace_too() -> Result<()> {
    let (rig, _sidecar) =
        crate::shared::shared(json!({ "allow_internet_access": false, "allow_out": [
        "203.0.113.10:22", "203.0.113.10:5000", "ok.test:443",
    ] }))?;
    let exchange = |kind, port| crate::shared::exchange_as_user(&rig, kind, site::OK, port);
    let spent = exchange("tcp", site::BANNER_PORT)?;
    ensure!(spent.outcome.is_answered(), "{spent:?}");
    let spent = exchange("udp", site::UDP_PORT)?;
    ensure!(spent.outcome.is_answered(), "{spent:?}");
    for (kind, port) in
        [("tcp", site::ECHO_PORT), ("udp", site::QUIC_PORT), ("udp", site::BANNER_PORT)]
    {
        refused_immediately(&format!("{kind} {port}"), || exchange(kind, port))?;
    }
    Ok(())
}

/// The time to load a policy grows with the square of the number of nftables sets, and an update loads two policies.
fn policies_with_many_ports_are_applied() -> Result<()> {
    let entries = |first: u8| -> Vec<String> {
        let port = |n: u16| 20_000 + n % 15;
        let v4 = (0..490).map(|n| format!("{first}.0.{}.{}:{}", n / 100, n % 100 * 2, port(n)));
        let v6 = (0..490).map(|n| format!("[2606::{first}:{n}:0]:{}", port(n)));
        v4.chain(v6).collect()
    };
    let policy = |first: u8, denied: IpAddr| {
        let mut deny = entries(first + 2);
        deny.push(format!("{denied}:{}", site::UDP_PORT));
        json!({ "allow_out": entries(first), "deny_out": deny })
    };
    let (rig, sidecar) = with(policy(1, site::OTHER))?;
    no_udp(&rig, site::OTHER, site::UDP_PORT)?;
    udp(&rig, site::EXAMPLE)?;
    sidecar.set(&policy(2, site::EXAMPLE))?;
    no_udp(&rig, site::EXAMPLE, site::UDP_PORT)?;
    udp(&rig, site::OTHER)?;
    banner(&rig, site::EXAMPLE)
}

fn a_name_that_is_denied_on_a_port_has_known_addresses_after_the_sandbox_has_queried_it()
-> Result<()> {
    let denied = format!("*.example.com:{}", site::BANNER_PORT);
    let (rig, _sidecar) = with(json!({ "deny_out": [denied] }))?;
    // The address is not known yet.
    banner(&rig, site::EXAMPLE)?;
    ensure!(resolved(&rig, "www.example.com")? == site::EXAMPLE);
    let begun = Instant::now();
    while !rig.sandbox.tcp(site::EXAMPLE, site::BANNER_PORT, b"")?.outcome.is_refused() {
        ensure!(begun.elapsed() < Duration::from_secs(40), "the address is still reached");
        std::thread::sleep(Duration::from_millis(200));
    }
    no_tcp(&rig, site::EXAMPLE, site::BANNER_PORT)?;
    echo(&rig, site::EXAMPLE)?;
    udp(&rig, site::EXAMPLE)
}
