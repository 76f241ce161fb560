//! An update of the policy while a thousand connections a second start.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use sandgate_egress_tests::capture::Content;
use sandgate_egress_tests::load::Attempt;
use sandgate_egress_tests::{Capture, Load, Rig, site};
use serde_json::json;

use crate::support::{tests, with};

tests![
    an_update_lets_nothing_denied_through_at_a_thousand_connections_a_second,
    no_connection_that_starts_after_a_denial_gets_out_during_frequent_updates,
];

/// The connections per second to each of the two addresses.
const RATE: u32 = 550;
/// The addresses that the clients use.
const OK: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
const OTHER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 20);
/// A client that is not scheduled for this time may find its connection closed: docs/decisions/0005.
const INSPECTION: Duration = Duration::from_millis(150);

fn load(rig: &Rig, address: Ipv4Addr) -> Load {
    Load::start(&rig.sandbox, (address, site::HTTP_PORT), RATE, 4)
}

/// Returns true if the attempt was refused.
fn is_refused(attempt: &Attempt) -> bool {
    match &attempt.outcome {
        Ok(status) => *status == 403,
        Err(error) => matches!(
            error.kind(),
            ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused | ErrorKind::UnexpectedEof
        ),
    }
}

/// The policy cycles through four, each of which denies one address by a different rule and allows another. No
/// connection may reach the first address, and none to the other may fail.
fn an_update_lets_nothing_denied_through_at_a_thousand_connections_a_second() -> Result<()> {
    let (rig, sidecar) = with(json!({ "deny_out": ["203.0.113.20"] }))?;
    let capture = rig.capture()?;
    let policies = [
        json!({ "allow_internet_access": false, "allow_out": ["203.0.113.10"] }),
        json!({ "deny_out": ["203.0.113.0/29", "203.0.113.20"] }),
        json!({ "deny_out": ["203.0.113.16/28", "example.com"] }),
        json!({ "allow_internet_access": false, "allow_out": ["203.0.113.8/29", "ok.test"] }),
    ];
    let (allowed, denied) = (load(&rig, OK), load(&rig, OTHER));
    let begun = Instant::now();
    let swung = policies.iter().cycle().take(12).try_for_each(|policy| sidecar.set(policy));
    let time = begun.elapsed();
    let (allowed, denied) = (allowed.stop()?, denied.stop()?);
    swung?;
    let rate = 1_000 * (allowed.len() + denied.len()) / usize::try_from(time.as_millis())?;
    println!("    {rate} connections a second, for {time:?} and 12 updates");
    if rate < 1_000 {
        println!("    that is less than a thousand: this machine is too slow, or too busy");
    }
    ensure!(rate > 200, "{rate} connections a second are too few to show anything");
    let failed = |attempt: &&Attempt| !matches!(attempt.outcome, Ok(200));
    let (late, wrong): (Vec<_>, Vec<_>) =
        allowed.iter().filter(failed).partition(|attempt| attempt.time >= INSPECTION);
    ensure!(wrong.is_empty(), "{} that are allowed failed: {:?}", wrong.len(), wrong.first());
    ensure!(late.len() * 200 < allowed.len(), "{} of {} were late", late.len(), allowed.len());
    let wrong = denied.iter().find(|attempt| !is_refused(attempt));
    ensure!(wrong.is_none(), "one that is denied: {wrong:?}");
    let seen = capture.to(site::OTHER);
    ensure!(seen.is_empty(), "the denied destination saw {:?}", seen.first());
    Ok(())
}

/// The number of connections whose SYN reached the internet.
fn begun(capture: &Capture, address: IpAddr) -> usize {
    let is_begun = |content| matches!(content, Content::Tcp { syn: true, .. });
    capture.to(address).into_iter().filter(|packet| is_begun(packet.content)).count()
}

fn no_connection_that_starts_after_a_denial_gets_out_during_frequent_updates() -> Result<()> {
    let (rig, sidecar) = with(json!({}))?;
    let clients = load(&rig, OTHER);
    let (allow, deny) = (json!({}), json!({ "deny_out": ["203.0.113.20"] }));
    let all = rig.capture()?;
    for _ in 0..4 {
        sidecar.set(&deny)?;
        let capture = rig.capture()?;
        sleep(Duration::from_millis(200));
        ensure!(begun(&capture, site::OTHER) == 0, "{:?}", capture.to(site::OTHER).first());
        sidecar.set(&allow)?;
        sleep(Duration::from_millis(50));
    }
    ensure!(begun(&all, site::OTHER) > 0, "no connection succeeded while the address was allowed");
    // Faster than the agent can follow: some changes arrive during another one, and some are skipped.
    for pause in [10, 70, 130, 190, 250, 310, 370].into_iter().cycle().take(21) {
        sidecar.write(&deny.to_string())?;
        sleep(Duration::from_millis(pause));
        sidecar.write(&allow.to_string())?;
        sleep(Duration::from_millis(pause / 2));
    }
    // Only the last policy denies this, so its denial shows that nftables has the policy.
    sidecar.write(&json!({ "deny_out": ["203.0.113.20", "203.0.113.66"] }).to_string())?;
    let waited = Instant::now();
    while !rig.sandbox.tcp(site::EXAMPLE, site::BANNER_PORT, b"")?.outcome.is_refused() {
        ensure!(waited.elapsed() < Duration::from_secs(60), "the last policy is not in force");
    }
    // Envoy follows. Until then, nothing gets out either, but a client gets a 502 instead of a denial.
    let generation = || sidecar.status().and_then(|status| status["generation"].as_u64());
    let (mut last, mut since) = (generation(), Instant::now());
    while since.elapsed() < Duration::from_secs(1) {
        ensure!(waited.elapsed() < Duration::from_secs(60), "the agent is never idle");
        sleep(Duration::from_millis(20));
        if generation() != last {
            (last, since) = (generation(), Instant::now());
        }
    }
    let capture = rig.capture()?;
    let from = Instant::now();
    sleep(Duration::from_secs(1));
    ensure!(begun(&capture, site::OTHER) == 0, "{:?}", capture.to(site::OTHER).first());
    let attempts = clients.stop()?;
    let after: Vec<_> = attempts.iter().filter(|attempt| attempt.begun >= from).collect();
    ensure!(after.len() > 100, "{} connections show nothing", after.len());
    let wrong = after.iter().find(|attempt| !is_refused(attempt));
    ensure!(wrong.is_none(), "{wrong:?}");
    Ok(())
}
