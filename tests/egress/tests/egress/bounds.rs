//! The limits of a sandbox's resources: beyond a limit, new connections are refused immediately, nothing gets out
//! without a decision, and existing connections continue.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use sandgate_egress_tests::{Outcome, Setup, Spent, site};
use serde_json::json;

use crate::support::{REFUSAL_TIME, refused_immediately, tests, with, with_setup};

tests![
    a_connection_beyond_the_maximum_is_closed_and_the_others_continue,
    an_envoy_without_memory_lets_nothing_out,
    an_idle_agent_starts_no_programs,
    an_agent_that_can_not_renew_the_gate_logs_an_error,
];

const PATIENCE: Duration = Duration::from_secs(10);

fn connect(address: IpAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&SocketAddr::new(address, site::ECHO_PORT), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Returns true if the connection echoes data.
fn echoes(stream: &mut TcpStream) -> bool {
    let mut answer = [0; 5];
    stream.write_all(b"hello").and_then(|()| stream.read_exact(&mut answer)).is_ok()
        && &answer == b"hello"
}

/// Asserts that the connection ended immediately without data, with or without a reset.
fn closed_immediately(what: &str, spent: &Spent) -> Result<()> {
    let closed = spent.outcome.is_refused() || spent.outcome == Outcome::Closed;
    ensure!(closed && spent.time < 2 * REFUSAL_TIME, "{what}: {spent:?}");
    Ok(())
}

fn a_connection_beyond_the_maximum_is_closed_and_the_others_continue() -> Result<()> {
    const MOST: usize = 40;
    let setup = Setup::new(json!({})).with(&["--max-connections", &MOST.to_string()]);
    let (rig, sidecar) = with_setup(&setup)?;
    let status = sidecar.status().unwrap_or_default();
    ensure!(status["envoy_max_connections"] == MOST, "{status}");
    let mut held = rig.sandbox.enter(|| {
        let mut held: Vec<TcpStream> = (0..MOST).filter_map(|_| connect(site::OK).ok()).collect();
        let alive = held.iter_mut().filter_map(|stream| echoes(stream).then_some(())).count();
        ensure!(alive == MOST, "{alive} of {MOST}");
        Ok(held)
    })??;
    let capture = rig.capture()?;
    for address in [site::OTHER, site::OTHER6] {
        for _ in 0..3 {
            closed_immediately("one more", &rig.sandbox.tcp(address, site::BANNER_PORT, b"")?)?;
        }
        ensure!(capture.to(address).is_empty(), "{address} received packets");
    }
    ensure!(held.iter_mut().all(echoes), "an earlier connection is gone");
    // A policy is enforced although the sandbox is at its limit.
    sidecar.set(&json!({ "deny_out": ["203.0.113.20"] }))?;
    let status = sidecar.status().unwrap_or_default();
    ensure!(status["envoy_restarts"] == 0 && status["ready"] == true, "{status}");
    ensure!(held.iter_mut().all(echoes), "an earlier connection is gone");
    // New connections are possible again.
    held.truncate(MOST / 2);
    let begun = Instant::now();
    while !rig.sandbox.enter(|| connect(site::OK).is_ok_and(|mut stream| echoes(&mut stream)))? {
        ensure!(begun.elapsed() < PATIENCE, "no place is free");
        std::thread::sleep(Duration::from_millis(20));
    }
    refused_immediately("denied", || rig.sandbox.tcp(site::OTHER, site::BANNER_PORT, b""))
}

/// Envoy's heap is beyond its limit from the start.
fn an_envoy_without_memory_lets_nothing_out() -> Result<()> {
    let (rig, sidecar) = with_setup(&Setup::new(json!({})).with(&["--max-heap", "1"]))?;
    let capture = rig.capture()?;
    let begun = Instant::now();
    // Envoy checks its memory four times a second.
    while rig.sandbox.tcp(site::OK, site::BANNER_PORT, b"")?.outcome.text().is_some() {
        ensure!(begun.elapsed() < PATIENCE, "Envoy does not detect that its heap is full");
    }
    for address in [site::OTHER, site::OTHER6] {
        closed_immediately("tcp", &rig.sandbox.tcp(address, site::BANNER_PORT, b"")?)?;
        closed_immediately(
            "http",
            &rig.sandbox.tcp(address, site::HTTP_PORT, b"GET / HTTP/1.1\r\n\r\n")?,
        )?;
        ensure!(capture.to(address).is_empty(), "{address} received packets");
    }
    // Policies are still applied.
    sidecar.set(&json!({ "allow_internet_access": false }))?;
    ensure!(sidecar.status().is_some_and(|status| status["envoy_restarts"] == 0));
    Ok(())
}

/// The agent renews the gate several times a second. A program for this would cost more than the rest of an idle agent.
fn an_idle_agent_starts_no_programs() -> Result<()> {
    let (rig, sidecar) = with(json!({}))?;
    let children = || -> Result<u64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", sidecar.process.pid()))?;
        // The fields after the name (proc_pid_stat(5)): page faults and processor time of exited children.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
        let sum = [8, 10, 13, 14].map(|field| fields[field].parse::<u64>().unwrap_or(u64::MAX));
        Ok(sum.iter().sum())
    };
    let before = children()?;
    std::thread::sleep(Duration::from_secs(3));
    ensure!(children()? == before, "a child has ended");
    // The gate is open.
    ensure!(rig.sandbox.ping(site::OK)?.outcome.is_answered());
    Ok(())
}

/// The agent reports a change that the kernel has not confirmed.
fn an_agent_that_can_not_renew_the_gate_logs_an_error() -> Result<()> {
    let (rig, sidecar) = with(json!({}))?;
    rig.gateway.run("nft", &["delete table inet sandgate"])?;
    let begun = Instant::now();
    while !sidecar.process.output().contains("the gate could not be renewed") {
        ensure!(begun.elapsed() < PATIENCE, "{}", sidecar.process.output());
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
