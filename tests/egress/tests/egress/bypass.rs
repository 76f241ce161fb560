//! Attempts to bypass an allow list. SECURITY.md lists them.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustls::pki_types::ServerName;
use sandgate_egress_tests::{Capture, Outcome, Rig, Setup, Sidecar, site};
use serde_json::{Value, json};

use crate::support::{curl, dig, is_answered_with, refused_immediately, tests, with, with_setup};

tests![
    a_connection_with_an_allowed_name_to_another_address_goes_to_the_name,
    a_host_or_server_name_that_is_not_allowed_is_refused_on_an_allowed_address,
    every_request_of_a_connection_is_evaluated,
    an_embedded_address_is_evaluated_instead_of_its_ipv6_address,
    a_client_hello_in_pieces_or_of_any_size_is_parsed,
    udp_that_may_be_quic_is_refused_if_a_rule_names_a_domain,
    fragments_are_evaluated_as_the_whole_packet,
    packets_with_a_forged_source_address_do_not_get_out,
    no_policy_allows_another_sandbox,
    an_address_that_the_gateway_received_later_is_denied,
    malformed_packets_and_queries_do_not_get_out,
    denying_a_name_does_not_deny_connections_that_hide_the_name,
];

/// A rig with internet access off, and with `ok.test` and names below it allowed.
fn allow_list() -> Result<(Rig, Sidecar, Capture)> {
    let (rig, sidecar) =
        with(json!({ "allow_internet_access": false, "allow_out": ["ok.test", "*.ok.test"] }))?;
    let capture = rig.capture()?;
    Ok((rig, sidecar, capture))
}

/// Ensures that no packet reached a destination that is not allowed.
fn others_saw_nothing(capture: &Capture) -> Result<()> {
    for address in [site::OTHER, site::OTHER6, site::EXAMPLE, site::METADATA, site::PRIVATE] {
        ensure!(capture.to(address).is_empty(), "{address} saw {:?}", capture.to(address));
    }
    Ok(())
}

fn virtual_address(rig: &Rig, name: &str) -> Result<IpAddr> {
    let said = dig(rig, site::RESOLVER, &[name, "A", "+short"])?;
    said.trim().parse().with_context(|| format!("{name}: `{said}`"))
}

fn a_connection_with_an_allowed_name_to_another_address_goes_to_the_name() -> Result<()> {
    let (rig, _sidecar, capture) = allow_list()?;
    for (scheme, port) in [("https", 443), ("http", 80)] {
        let elsewhere = format!("ok.test:{port}:{}", site::OTHER);
        let got = curl(&rig, &["--resolve", &elsewhere, &format!("{scheme}://ok.test/")])?;
        let answer: Value = serde_json::from_str(&got).with_context(|| got.clone())?;
        ensure!(answer["address"] == site::OK.to_string(), "{scheme}: {answer}");
    }
    others_saw_nothing(&capture)
}

fn a_host_or_server_name_that_is_not_allowed_is_refused_on_an_allowed_address() -> Result<()> {
    let (rig, _sidecar, capture) = allow_list()?;
    let ok = virtual_address(&rig, "ok.test")?;
    for host in [
        "other.test",
        "203.0.113.20",
        "[2001:db8:c::20]",
        "169.254.169.254",
        "xok.test",
        "ok.test.evil",
        "ok.test@other.test",
        "ok.test,other.test",
    ] {
        let got = curl(&rig, &["-H", &format!("Host: {host}"), "http://ok.test/"])?;
        ensure!(got.contains("EGRESS_DENIED"), "Host: {host}: {got}");
    }
    for name in ["other.test", "xok.test", "example.com"] {
        let there = format!("{name}:443:{ok}");
        let got = curl(&rig, &["--resolve", &there, &format!("https://{name}/")]);
        ensure!(got.is_err(), "SNI {name}: {got:?}");
    }
    others_saw_nothing(&capture)
}

/// Sends requests on one connection, and returns the statuses of the responses.
fn statuses(rig: &Rig, address: IpAddr, requests: &[&str]) -> Result<Vec<String>> {
    rig.sandbox.enter(|| {
        let mut stream = TcpStream::connect((address, site::HTTP_PORT))?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut statuses = Vec::new();
        for request in requests {
            stream.write_all(request.as_bytes())?;
            let mut answer = Vec::new();
            let mut buffer = [0; 4096];
            // A response is JSON that ends with a brace, or has no body.
            while !(answer.ends_with(b"}")
                || (answer.ends_with(b"\r\n\r\n") && request.starts_with("CONNECT")))
            {
                let length = stream.read(&mut buffer)?;
                if length == 0 {
                    break;
                }
                answer.extend_from_slice(&buffer[..length]);
            }
            let answer = String::from_utf8_lossy(&answer).into_owned();
            statuses.push(answer.split(' ').nth(1).unwrap_or("closed").to_owned());
        }
        Ok(statuses)
    })?
}

fn every_request_of_a_connection_is_evaluated() -> Result<()> {
    let (rig, _sidecar, capture) = allow_list()?;
    let ok = virtual_address(&rig, "ok.test")?;
    let get = |host: &str| format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let seen = statuses(&rig, ok, &[&get("ok.test"), &get("other.test"), &get("ok.test")])?;
    ensure!(seen == ["200", "403", "200"], "kept alive: {seen:?}");
    let absolute = "GET http://other.test/ HTTP/1.1\r\nHost: ok.test\r\n\r\n";
    let seen = statuses(&rig, ok, &[absolute])?;
    ensure!(seen == ["403"], "absolute form: {seen:?}");
    for target in ["other.test:443", "169.254.169.254:80", "203.0.113.20:22"] {
        let connect = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
        let seen = statuses(&rig, ok, &[&connect])?;
        ensure!(seen == ["403"], "CONNECT {target}: {seen:?}");
    }
    let upgrade =
        "GET / HTTP/1.1\r\nHost: other.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let seen = statuses(&rig, ok, &[upgrade])?;
    ensure!(seen == ["403"], "upgrade: {seen:?}");
    others_saw_nothing(&capture)
}

fn an_embedded_address_is_evaluated_instead_of_its_ipv6_address() -> Result<()> {
    let (rig, _sidecar) =
        with(json!({ "allow_out": ["::/0"], "deny_out": ["203.0.113.20", "169.254.169.254"] }))?;
    let capture = rig.capture()?;
    for form in [
        "64:ff9b::cb00:7114",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::a9fe:a9fe",
        "2002:cb00:7114::1",
        "2002:a9fe:a9fe::1",
        "::ffff:203.0.113.20",
    ] {
        let address: IpAddr = form.parse()?;
        refused_immediately(form, || rig.sandbox.tcp(address, site::HTTP_PORT, b""))?;
        refused_immediately(form, || rig.sandbox.udp(address, site::UDP_PORT, b"hello"))?;
    }
    let seen = capture.packets();
    ensure!(seen.is_empty(), "the internet saw {seen:?}");
    Ok(())
}

/// A ClientHello that offers enough protocols to reach this length.
fn client_hello(name: &str, padding: usize) -> Result<Vec<u8>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = (0..padding / 256).map(|_| vec![b'x'; 255]).collect();
    config.alpn_protocols.push(b"http/1.1".to_vec());
    let name = ServerName::try_from(name.to_owned())?;
    let mut connection = rustls::ClientConnection::new(Arc::new(config), name)?;
    let mut hello = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut hello)?;
    }
    Ok(hello)
}

fn a_client_hello_in_pieces_or_of_any_size_is_parsed() -> Result<()> {
    let (rig, _sidecar, capture) = allow_list()?;
    let ok = virtual_address(&rig, "ok.test")?;
    for padding in [0, 1_500, 20_000, 50_000] {
        for piece in [7, 1_000_000] {
            for name in ["ok.test", "other.test"] {
                let hello = client_hello(name, padding)?;
                ensure!(hello.len() > padding);
                let piece = piece.max(hello.len() / 200);
                let outcome =
                    rig.sandbox.enter(|| -> std::io::Result<usize> {
                        let mut stream = TcpStream::connect((ok, site::HTTPS_PORT))?;
                        stream.set_nodelay(true)?;
                        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
                        for part in hello.chunks(piece) {
                            stream.write_all(part)?;
                            std::thread::sleep(Duration::from_millis(
                                if part.len() < hello.len() { 2 } else { 0 },
                            ));
                        }
                        stream.read(&mut [0; 5])
                    })?;
                let what = format!("{name}, {} bytes in pieces of {piece}", hello.len());
                match name {
                    // rustls fills its records, and Envoy's inspector takes no record of more than 16,384 bytes with
                    // its head. (Large hellos in smaller ones: hellos.rs.)
                    "ok.test" if hello.len() > 16_384 => {}
                    "ok.test" => ensure!(matches!(outcome, Ok(1..)), "{what}: {outcome:?}"),
                    _ => ensure!(matches!(outcome, Ok(0) | Err(_)), "{what}: {outcome:?}"),
                }
            }
        }
    }
    others_saw_nothing(&capture)
}

/// The visible part of a QUIC client's first packet: a long header, version 1, 1,200 bytes.
fn quic_initial() -> Vec<u8> {
    let mut packet = vec![0xc3, 0, 0, 0, 1, 8];
    packet.resize(1_200, 0x5a);
    packet
}

fn udp_that_may_be_quic_is_refused_if_a_rule_names_a_domain() -> Result<()> {
    let (rig, sidecar) = with(json!({ "deny_out": ["example.com"] }))?;
    let capture = rig.capture()?;
    for address in [site::OK, site::OK6] {
        refused_immediately("port 443", || rig.sandbox.udp(address, site::QUIC_PORT, b"hello"))?;
        refused_immediately("an Initial", || {
            rig.sandbox.udp(address, site::UDP_PORT, &quic_initial())
        })?;
        ensure!(
            capture.to(address).is_empty(),
            "the destination received {:?}",
            capture.to(address)
        );
        is_answered_with(
            "no QUIC",
            &rig.sandbox.udp(address, site::UDP_PORT, b"hello")?,
            b"hello",
        )?;
    }
    // If no rule names a domain, QUIC is treated like other UDP.
    sidecar.set(&json!({ "deny_out": ["203.0.113.20"] }))?;
    is_answered_with(
        "QUIC",
        &rig.sandbox.udp(site::OK, site::QUIC_PORT, &quic_initial())?,
        &quic_initial(),
    )
}

fn fragments_are_evaluated_as_the_whole_packet() -> Result<()> {
    let (rig, _sidecar) =
        with(json!({ "deny_out": ["203.0.113.20", "2001:db8:c::20", "example.com"] }))?;
    let capture = rig.capture()?;
    let large = vec![7; 4_000];
    for address in [site::OTHER, site::OTHER6] {
        refused_immediately("in fragments", || rig.sandbox.udp(address, site::UDP_PORT, &large))?;
    }
    let mut initial = quic_initial();
    initial.resize(4_000, 0);
    refused_immediately("QUIC in fragments", || {
        rig.sandbox.udp(site::OK, site::UDP_PORT, &initial)
    })?;
    let seen = capture.packets();
    ensure!(seen.is_empty(), "the internet saw {seen:?}");
    is_answered_with("allowed", &rig.sandbox.udp(site::OK, site::UDP_PORT, &large)?, &large)
}

fn packets_with_a_forged_source_address_do_not_get_out() -> Result<()> {
    let (rig, _sidecar) = with(json!({}))?;
    let capture = rig.capture()?;
    for (address, length) in
        [("203.0.113.99", "/32"), ("198.51.100.1", "/32"), ("2001:db8:c::99", "/128")]
    {
        // Root in the sandbox can do this.
        rig.sandbox.run("ip", &["addr", "add", &format!("{address}{length}"), "dev", "eth0"])?;
        let to = if address.contains(':') { site::OK6 } else { site::OK };
        for port in [site::UDP_PORT, 53] {
            let outcome = rig.sandbox.enter(|| -> std::io::Result<()> {
                let socket =
                    std::net::UdpSocket::bind((address.parse::<IpAddr>().unwrap_or(to), 0))?;
                socket.send_to(b"from somebody else", (to, port))?;
                Ok(())
            })?;
            outcome?;
        }
    }
    let seen = capture.packets();
    ensure!(seen.is_empty(), "the internet saw {seen:?}");
    Ok(())
}

fn no_policy_allows_another_sandbox() -> Result<()> {
    let mut setup = Setup::new(json!({ "allow_out": ["0.0.0.0/0", "::/0"] }));
    // The rig's other addresses represent other sandboxes and the control plane.
    setup.operator["protected"] =
        json!(["192.0.2.0/30", "2001:db8:a::/64", "10.0.0.0/8", "203.0.113.20", "2001:db8:c::20"]);
    let (rig, _sidecar) = with_setup(&setup)?;
    let capture = rig.capture()?;
    for address in
        [site::PRIVATE, site::OTHER, site::OTHER6, site::METADATA, site::GATEWAY.0.into()]
    {
        for port in [9501, site::HTTP_PORT, site::HTTPS_PORT] {
            refused_immediately("tcp", || rig.sandbox.tcp(address, port, b""))?;
        }
        refused_immediately("udp", || rig.sandbox.udp(address, site::UDP_PORT, b"hello"))?;
        refused_immediately("ping", || rig.sandbox.ping(address))?;
    }
    let link_local: Ipv6Addr = "fe80::1".parse()?;
    ensure!(rig.sandbox.tcp(link_local.into(), 80, b"")?.outcome.text().is_none());
    let seen = capture.packets();
    ensure!(seen.is_empty(), "the internet saw {seen:?}");
    is_answered_with(
        "allowed",
        &rig.sandbox.tcp(site::OK, site::BANNER_PORT, b"")?,
        site::BANNER.as_bytes(),
    )
}

/// The gateway's addresses are guardrails. The agent reads the existing ones at its start.
fn an_address_that_the_gateway_received_later_is_denied() -> Result<()> {
    let (rig, _sidecar) = with(json!({}))?;
    let later: Ipv4Addr = "203.0.113.77".parse()?;
    rig.gateway.run("ip", &["addr", "add", &format!("{later}/32"), "dev", "lo"])?;
    let service = rig.gateway.enter(|| TcpListener::bind((later, site::BANNER_PORT)))??;
    service.set_nonblocking(true)?;
    // The second one is Envoy's own listener: Envoy would connect to itself in a loop.
    for port in [site::BANNER_PORT, 15_001] {
        let spent = rig.sandbox.tcp(later.into(), port, b"hello")?;
        ensure!(spent.outcome.text().is_none(), "port {port}: {spent:?}");
    }
    let reached = service.accept();
    ensure!(reached.as_ref().is_err_and(|e| e.kind() == ErrorKind::WouldBlock), "{reached:?}");
    Ok(())
}

/// UDP packets without a complete header, and router messages: no rule about ports and addresses matches them, and they
/// must not pass for this reason.
fn malformed_packets_and_queries_do_not_get_out() -> Result<()> {
    let (rig, _sidecar) = with(json!({}))?;
    let capture = rig.capture()?;
    for kind in ["udp", "icmp"] {
        rig.sandbox.run("python3", &["-c", RAW, kind, &site::OK.to_string()])?;
    }
    let odd = capture.to(site::OK);
    ensure!(odd.is_empty(), "the internet saw {odd:?}");
    ensure!(rig.sandbox.ping(site::OK)?.outcome.is_answered(), "no ping");
    ensure!(!capture.to(site::OK).is_empty(), "the capture sees nothing");
    Ok(())
}

/// Sends the malformed IPv4 packets.
const RAW: &str = r"
import socket, sys
kind, to = sys.argv[1:]
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, getattr(socket, f'IPPROTO_{kind.upper()}'))
for _ in range(3):
    raw.sendto({'udp': bytes([0, 1, 0, 2]), 'icmp': bytes([5, 1, 0xfa, 0xfe]) + bytes(28)}[kind], (to, 0))
";

/// Documents the limits of a domain in `deny_out`.
fn denying_a_name_does_not_deny_connections_that_hide_the_name() -> Result<()> {
    let (rig, _sidecar) = with(json!({ "deny_out": ["example.com", "*.ok.test"] }))?;
    // The names below a wildcard were never resolved, so their addresses are unknown.
    let spent = rig.sandbox.tcp(site::OK, site::BANNER_PORT, b"")?;
    ensure!(matches!(&spent.outcome, Outcome::Answered(_)), "{spent:?}");
    // The address is known, but another name is shown.
    let got = curl(
        &rig,
        &["-k", "--resolve", "innocent.test:443:203.0.113.66", "https://innocent.test/"],
    )?;
    ensure!(got.contains("203.0.113.66"), "{got}");
    Ok(())
}
