//! Failures: nothing gets out after any failure, and an agent that exits restores the namespace.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sandgate_egress_tests::{Rig, Setup, Sidecar, site};
use serde_json::json;

use crate::support::{is_answered_with, refused_immediately, tests, with};

tests![
    nothing_gets_out_after_the_agent_is_killed,
    nothing_denied_gets_out_after_envoy_is_killed,
    an_invalid_policy_changes_nothing_and_is_reported,
    with_an_invalid_policy_at_the_start_nothing_gets_out,
    nothing_gets_out_while_the_agent_hangs,
    an_agent_that_exits_restores_the_namespace,
    an_agent_that_exits_does_not_open_a_gateway_that_forwarded_before,
    an_agent_that_starts_after_a_killed_one_works,
    memory_is_reported,
];

/// The time for which UDP may still pass after the agent is killed (2 s), with a margin for a busy machine.
pub(crate) const HELD: Duration = Duration::from_secs(6);

/// Ensures that nothing gets out over any protocol.
pub(crate) fn is_closed(rig: &Rig) -> Result<()> {
    let capture = rig.capture()?;
    for address in [site::OK, site::OK6] {
        refused_immediately("tcp", || rig.sandbox.tcp(address, site::BANNER_PORT, b""))?;
        refused_immediately("udp", || rig.sandbox.udp(address, site::UDP_PORT, b"hello"))?;
        refused_immediately("dns", || rig.sandbox.udp(address, 53, b"hello"))?;
        refused_immediately("dns by tcp", || rig.sandbox.tcp(address, 53, b"hello"))?;
        refused_immediately("ping", || rig.sandbox.ping(address))?;
    }
    let seen = capture.packets();
    ensure!(seen.is_empty(), "the internet saw {seen:?}");
    Ok(())
}

pub(crate) fn is_open(rig: &Rig) -> Result<()> {
    is_answered_with(
        "tcp",
        &rig.sandbox.tcp(site::OK, site::BANNER_PORT, b"")?,
        site::BANNER.as_bytes(),
    )?;
    is_answered_with("udp", &rig.sandbox.udp(site::OK, site::UDP_PORT, b"hello")?, b"hello")
}

fn nothing_gets_out_after_the_agent_is_killed() -> Result<()> {
    let (rig, mut sidecar) = with(json!({}))?;
    is_open(&rig)?;
    let envoy = sidecar.envoy_pid()?;
    sidecar.kill()?;
    sleep(HELD);
    ensure!(!std::path::Path::new(&format!("/proc/{envoy}")).exists(), "Envoy lives on");
    is_closed(&rig)
}

fn nothing_denied_gets_out_after_envoy_is_killed() -> Result<()> {
    let (rig, sidecar) = with(json!({ "deny_out": ["203.0.113.20"] }))?;
    let first = sidecar.envoy_pid()?;
    kill(Pid::from_raw(first), Signal::SIGKILL)?;
    sidecar.until("without its Envoy", |status| (status["envoy_restarts"] == 1).then_some(()))?;
    // UDP does not pass through Envoy, but is refused as well while Envoy does not run.
    let begun = Instant::now();
    while !sidecar.says_ready() && begun.elapsed() < Duration::from_secs(60) {
        let denied = rig.sandbox.tcp(site::OTHER, site::BANNER_PORT, b"")?;
        ensure!(denied.outcome.is_refused(), "{denied:?}");
    }
    sidecar.until_ready()?;
    ensure!(sidecar.envoy_pid()? != first);
    is_open(&rig)?;
    refused_immediately("denied", || rig.sandbox.tcp(site::OTHER, site::BANNER_PORT, b""))
}

fn an_invalid_policy_changes_nothing_and_is_reported() -> Result<()> {
    let (rig, sidecar) = with(json!({ "deny_out": ["203.0.113.20"] }))?;
    for (bad, reason) in [
        ("{", "EOF"),
        (r#"{"allow_out": ["example.com:0"]}"#, "example.com:0"),
        (r#"{"allow_internet": false}"#, "allow_internet"),
        ("", "EOF"),
    ] {
        sidecar.write(bad)?;
        sidecar.until("complaining", |status| {
            status["problem"].as_str()?.contains(reason).then_some(())
        })?;
        ensure!(sidecar.status().is_some_and(|status| status["ready"] == true));
        is_open(&rig)?;
        refused_immediately("denied", || rig.sandbox.tcp(site::OTHER, site::BANNER_PORT, b""))?;
        refused_immediately("denied", || rig.sandbox.udp(site::OTHER, site::UDP_PORT, b"hello"))?;
    }
    sidecar.set(&json!({ "deny_out": ["203.0.113.10"] }))?;
    ensure!(sidecar.status().is_some_and(|status| status["problem"].is_null()));
    is_answered_with(
        "allowed now",
        &rig.sandbox.udp(site::OTHER, site::UDP_PORT, b"hello")?,
        b"hello",
    )
}

fn with_an_invalid_policy_at_the_start_nothing_gets_out() -> Result<()> {
    let rig = Rig::build()?;
    let sidecar = Sidecar::launch(&rig, &Setup::new(json!({ "deny_out": [":80"] })))?;
    sidecar.until("complaining", |status| status["problem"].as_str().map(|_| ()))?;
    is_closed(&rig)?;
    ensure!(!sidecar.says_ready());
    sidecar.write("{}")?;
    sidecar.until_ready()?;
    is_open(&rig)
}

fn nothing_gets_out_while_the_agent_hangs() -> Result<()> {
    let (rig, sidecar) = with(json!({}))?;
    is_open(&rig)?;
    kill(Pid::from_raw(sidecar.process.pid()), Signal::SIGSTOP)?;
    sleep(HELD);
    let capture = rig.capture()?;
    for address in [site::OK, site::OK6] {
        refused_immediately("tcp", || rig.sandbox.tcp(address, site::BANNER_PORT, b""))?;
        refused_immediately("udp", || rig.sandbox.udp(address, site::UDP_PORT, b"hello"))?;
    }
    ensure!(capture.packets().is_empty(), "the internet saw {:?}", capture.packets());
    // The agent renews the gate once it continues.
    kill(Pid::from_raw(sidecar.process.pid()), Signal::SIGCONT)?;
    sleep(Duration::from_secs(1));
    is_open(&rig)
}

/// The state that the agent changes: rules, routes, kernel settings.
fn state(rig: &Rig) -> Result<Vec<String>> {
    [
        "nft list ruleset",
        "ip rule list",
        "ip -6 rule list",
        "ip route show table all",
        "sysctl net.ipv4.ip_forward net.ipv6.conf.all.forwarding net.ipv4.icmp_ratelimit net.ipv6.icmp.ratelimit net.core.somaxconn",
    ]
    .into_iter()
    .map(|command| rig.gateway.run("sh", &["-c", command]))
    .collect()
}

fn an_agent_that_exits_restores_the_namespace() -> Result<()> {
    let rig = Rig::build()?;
    let before = state(&rig)?;
    let mut sidecar = Sidecar::start(&rig, &Setup::new(json!({})))?;
    ensure!(state(&rig)? != before, "the agent changes nothing, so this shows nothing");
    let envoy = sidecar.envoy_pid()?;
    let status = sidecar.terminate()?;
    ensure!(status.success(), "{status}: {}", sidecar.process.output());
    ensure!(!std::path::Path::new(&format!("/proc/{envoy}")).exists(), "Envoy lives on");
    ensure!(!sidecar.says_ready() && sidecar.status().is_none());
    ensure!(!rig.run_dir().exists());
    let after = state(&rig)?;
    ensure!(after == before, "before: {before:#?}\nafter: {after:#?}");
    let capture = rig.capture()?;
    let udp = rig.sandbox.udp(site::OK, site::UDP_PORT, b"hello")?;
    ensure!(udp.outcome.text().is_none() && capture.to(site::OK).is_empty(), "{udp:?}");
    Ok(())
}

fn an_agent_that_exits_does_not_open_a_gateway_that_forwarded_before() -> Result<()> {
    let rig = Rig::build()?;
    rig.gateway
        .run("sysctl", &["-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"])?;
    is_answered_with("before", &rig.sandbox.udp(site::OK, site::UDP_PORT, b"hello")?, b"hello")?;
    let mut sidecar = Sidecar::start(&rig, &Setup::new(json!({})))?;
    is_open(&rig)?;
    sidecar.terminate()?;
    is_closed(&rig)
}

fn an_agent_that_starts_after_a_killed_one_works() -> Result<()> {
    let (rig, mut sidecar) = with(json!({}))?;
    sidecar.kill()?;
    let sidecar = Sidecar::start(&rig, &Setup::new(json!({ "deny_out": ["203.0.113.20"] })))?;
    is_open(&rig)?;
    refused_immediately("denied", || rig.sandbox.tcp(site::OTHER, site::BANNER_PORT, b""))?;
    drop(sidecar);
    is_closed(&rig)
}

fn memory_is_reported() -> Result<()> {
    let (_rig, sidecar) = with(json!({}))?;
    let (envoy, agent) = sidecar.until("telling its memory", |status| {
        Some((status["envoy_resident_bytes"].as_u64()?, status["agent_resident_bytes"].as_u64()?))
    })?;
    ensure!((20 << 20..400 << 20).contains(&envoy), "Envoy: {envoy}");
    ensure!((1 << 20..200 << 20).contains(&agent), "agent: {agent}");
    Ok(())
}
