//! Internet access off: everything fails immediately, and nothing gets out.

use std::time::Instant;

use anyhow::{Result, ensure};
use sandgate_egress_tests::site;
use serde_json::json;

use crate::support::{dig, is_immediate, refused_immediately, tests, with};

tests![
    tcp_is_reset_before_anything_leaves,
    udp_and_icmp_are_refused_with_an_error,
    dns_responds_with_nxdomain,
];

fn tcp_is_reset_before_anything_leaves() -> Result<()> {
    let (rig, _sidecar) = with(json!({ "allow_internet_access": false }))?;
    let capture = rig.capture()?;
    for address in [site::OK, site::OK6, site::PRIVATE, site::METADATA, site::GATEWAY.0.into()] {
        for port in [
            site::BANNER_PORT,
            site::HTTP_PORT,
            site::HTTPS_PORT,
            853,
            4444,
            15_000,
            15_001,
            15_053,
        ] {
            let what = format!("tcp {address} port {port}");
            refused_immediately(&what, || rig.sandbox.tcp(address, port, b""))?;
        }
    }
    let seen = capture.packets();
    ensure!(seen.is_empty(), "the internet saw {seen:?}");
    Ok(())
}

fn udp_and_icmp_are_refused_with_an_error() -> Result<()> {
    let (rig, _sidecar) = with(json!({ "allow_internet_access": false }))?;
    let capture = rig.capture()?;
    for address in [site::OK, site::OK6, site::PRIVATE, site::METADATA, site::GATEWAY.0.into()] {
        for port in [site::UDP_PORT, site::QUIC_PORT, 123, 15_053] {
            let what = format!("udp {address} port {port}");
            refused_immediately(&what, || rig.sandbox.udp(address, port, b"anyone there?"))?;
        }
        refused_immediately(&format!("ping {address}"), || rig.sandbox.ping(address))?;
    }
    let seen = capture.packets();
    ensure!(seen.is_empty(), "the internet saw {seen:?}");
    Ok(())
}

fn dns_responds_with_nxdomain() -> Result<()> {
    let (rig, _sidecar) = with(json!({ "allow_internet_access": false }))?;
    let capture = rig.capture()?;
    for server in [
        site::RESOLVER,
        site::PUBLIC_RESOLVER,
        site::RESOLVER6,
        site::METADATA,
        site::GATEWAY.0.into(),
    ] {
        for kind in ["A", "AAAA", "TXT", "MX", "SRV", "HTTPS", "NS", "ANY"] {
            for transport in ["+notcp", "+tcp"] {
                is_immediate(&format!("dig @{server} {kind} {transport}"), || {
                    let begun = Instant::now();
                    let said = dig(&rig, server, &["ok.test", kind, transport])?;
                    ensure!(said.contains("status: NXDOMAIN"), "{said}");
                    Ok(begun.elapsed())
                })?;
            }
        }
    }
    let done =
        rig.client(site::RESOLVER, "curl")?.args(["-sS", "-m", "5", "http://ok.test/"]).output()?;
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    ensure!(said.contains("Could not resolve host"), "curl: {said}");
    ensure!(rig.served.questions().is_empty(), "resolvers were asked {:?}", rig.served.questions());
    let seen = capture.packets();
    ensure!(seen.is_empty(), "the internet saw {seen:?}");
    Ok(())
}
