//! Envoy or the agent dies or hangs at the worst moment: nothing gets out without a decision.

use std::net::{IpAddr, Ipv4Addr};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sandgate_egress_tests::capture::Content;
use sandgate_egress_tests::{Load, Outcome, Rig, Setup, Sidecar, site};
use serde_json::json;

use crate::failures::{HELD, is_closed, is_open};
use crate::support::{refused_immediately, tests, with};

tests![
    an_envoy_killed_under_load_lets_nothing_out_without_a_decision,
    an_envoy_that_hangs_lets_nothing_out_and_is_replaced,
    an_envoy_that_hangs_is_detected_without_an_update,
    nothing_gets_out_after_the_agent_is_killed_during_an_update,
];

fn signal(pid: i32, signal: Signal) -> Result<()> {
    Ok(kill(Pid::from_raw(pid), signal)?)
}

/// Waits for an update that denies the address. A datagram whose response meets the new rules times out, and the next
/// one is refused.
fn until_denied(rig: &Rig) -> Result<()> {
    let begun = Instant::now();
    while !rig.sandbox.udp(site::OTHER, site::UDP_PORT, b"hello")?.outcome.is_refused() {
        ensure!(begun.elapsed() < Duration::from_secs(15), "not denied while Envoy is stopped");
    }
    Ok(())
}

fn an_envoy_killed_under_load_lets_nothing_out_without_a_decision() -> Result<()> {
    let (rig, sidecar) = with(json!({ "deny_out": ["203.0.113.20"] }))?;
    let capture = rig.capture()?;
    let to = |last| (Ipv4Addr::new(203, 0, 113, last), site::HTTP_PORT);
    let loads = [10, 20].map(|last| Load::start(&rig.sandbox, to(last), 200, 2));
    for killed in 1..=2 {
        sleep(Duration::from_millis(300));
        signal(sidecar.envoy_pid()?, Signal::SIGKILL)?;
        sidecar.until("with another Envoy", |status| {
            (status["envoy_restarts"] == killed && status["ready"] == true).then_some(())
        })?;
    }
    sleep(Duration::from_millis(300));
    let [allowed, denied] = loads;
    let (allowed, denied) = (allowed.stop()?, denied.stop()?);
    ensure!(denied.len() > 100, "{} connections show nothing", denied.len());
    ensure!(denied.iter().all(|attempt| !matches!(attempt.outcome, Ok(200))));
    let reached = allowed.iter().filter(|attempt| matches!(attempt.outcome, Ok(200))).count();
    ensure!((1..allowed.len()).contains(&reached), "{reached} of {}", allowed.len());
    ensure!(
        capture.to(site::OTHER).is_empty(),
        "the destination received {:?}",
        capture.to(site::OTHER).first()
    );
    // Envoy sent the packets that reached the allowed address. They were not forwarded from the sandbox.
    let passed = capture
        .to(site::OK)
        .into_iter()
        .find(|packet| packet.source != IpAddr::V4(site::OUTSIDE.0));
    ensure!(passed.is_none(), "{passed:?}");
    // No connection of the sandbox was masqueraded either: each has a connection of Envoy.
    let begun = |address| {
        let is_begun = |content| matches!(content, Content::Tcp { syn: true, .. });
        capture.to(address).into_iter().filter(|packet| is_begun(packet.content)).count()
    };
    ensure!(begun(site::OK) <= allowed.len(), "{} of {}", begun(site::OK), allowed.len());
    Ok(())
}

fn an_envoy_that_hangs_lets_nothing_out_and_is_replaced() -> Result<()> {
    let (rig, sidecar) = with(json!({}))?;
    is_open(&rig)?;
    let hangs = sidecar.envoy_pid()?;
    signal(hangs, Signal::SIGSTOP)?;
    let capture = rig.capture()?;
    let spent = rig.sandbox.tcp(site::OK, site::BANNER_PORT, b"")?;
    ensure!(spent.outcome == Outcome::Silence, "{spent:?}");
    ensure!(capture.to(site::OK).is_empty(), "the destination received {:?}", capture.to(site::OK));
    // Traffic that does not pass through Envoy is denied in time. Then the agent replaces Envoy.
    sidecar.write(&json!({ "deny_out": ["203.0.113.20"] }).to_string())?;
    until_denied(&rig)?;
    sidecar.until("with another Envoy", |status| {
        (status["envoy_restarts"] == 1 && status["ready"] == true).then_some(())
    })?;
    ensure!(sidecar.envoy_pid()? != hangs);
    ensure!(
        !std::path::Path::new(&format!("/proc/{hangs}")).exists(),
        "the hanging Envoy still exists"
    );
    is_open(&rig)?;
    refused_immediately("denied", || rig.sandbox.tcp(site::OTHER, site::BANNER_PORT, b""))
}

/// The policy does not change, and the sandbox sends nothing.
fn an_envoy_that_hangs_is_detected_without_an_update() -> Result<()> {
    let (rig, sidecar) = with(json!({}))?;
    let hangs = sidecar.envoy_pid()?;
    signal(hangs, Signal::SIGSTOP)?;
    sidecar.until("with another Envoy", |status| {
        (status["envoy_restarts"] == 1 && status["ready"] == true).then_some(())
    })?;
    ensure!(sidecar.envoy_pid()? != hangs);
    is_open(&rig)
}

/// Kills the agent after the denials are in force, and before the new policy is in force everywhere.
fn nothing_gets_out_after_the_agent_is_killed_during_an_update() -> Result<()> {
    let (rig, mut sidecar) = with(json!({ "deny_out": ["203.0.113.10"] }))?;
    let envoy = sidecar.envoy_pid()?;
    // Envoy does not confirm the policy, so the update does not continue.
    signal(envoy, Signal::SIGSTOP)?;
    let new = json!({ "deny_out": ["203.0.113.20"] });
    sidecar.write(&new.to_string())?;
    until_denied(&rig)?;
    // The denials of the old policy still apply: during an update, both policies must allow.
    refused_immediately("denied before", || rig.sandbox.udp(site::OK, site::UDP_PORT, b"hello"))?;
    sidecar.kill()?;
    sleep(HELD);
    ensure!(!std::path::Path::new(&format!("/proc/{envoy}")).exists(), "Envoy lives on");
    is_closed(&rig)?;
    let sidecar = Sidecar::start(&rig, &Setup::new(new))?;
    is_open(&rig)?;
    refused_immediately("denied now", || rig.sandbox.tcp(site::OTHER, site::BANNER_PORT, b""))?;
    drop(sidecar);
    is_closed(&rig)
}
