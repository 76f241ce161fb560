//! DNS rebinding: a name whose address changes between two queries, and the evaluation of Envoy's upstream connections.

use std::net::IpAddr;
use std::time::Instant;

use anyhow::{Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sandgate_egress_tests::{Capture, Rig, site};
use serde_json::{Value, json};

use crate::support::{curl, dig, is_immediate, tests, with};

tests![
    an_allowed_name_that_changes_to_a_guardrail_address_is_not_reached,
    a_rebinding_response_does_not_reach_the_sandbox,
    every_upstream_connection_of_envoy_is_evaluated,
];

/// A name with a time to live of zero, whose address [`turn`] sets.
const TURNS: &str = "turns.ok.test";

fn turn(rig: &Rig, address: IpAddr) -> Result<()> {
    rig.served.set_address(&format!("{TURNS}."), 0, address)
}

fn forbidden_saw_nothing(capture: &Capture) -> Result<()> {
    for address in [site::METADATA, site::PRIVATE] {
        ensure!(capture.to(address).is_empty(), "{address} saw {:?}", capture.to(address));
    }
    Ok(())
}

fn an_allowed_name_that_changes_to_a_guardrail_address_is_not_reached() -> Result<()> {
    let (rig, sidecar) = with(json!({ "allow_internet_access": false, "allow_out": [TURNS] }))?;
    turn(&rig, site::OK)?;
    let capture = rig.capture()?;
    let url = format!("http://{TURNS}/");
    let answer: Value = serde_json::from_str(&curl(&rig, &[&url])?)?;
    ensure!(answer["address"] == site::OK.to_string(), "{answer}");
    // Envoy caches the name for at least a minute, so a changed address has no effect. A restarted Envoy resolves it
    // again.
    for (killed, elsewhere) in [(1, site::METADATA), (2, site::PRIVATE)] {
        turn(&rig, elsewhere)?;
        let asked = rig.served.questions().len();
        kill(Pid::from_raw(sidecar.envoy_pid()?), Signal::SIGKILL)?;
        sidecar.until("with another Envoy", |status| {
            (status["envoy_restarts"] == killed && status["ready"] == true).then_some(())
        })?;
        for url in [url.clone(), format!("https://{TURNS}/")] {
            let got = curl(&rig, &["-k", "-f", &url]);
            ensure!(got.is_err(), "{url}: {got:?}");
        }
        ensure!(rig.served.questions().len() > asked, "the name was not resolved again");
    }
    forbidden_saw_nothing(&capture)
}

fn a_rebinding_response_does_not_reach_the_sandbox() -> Result<()> {
    let (rig, _sidecar) = with(json!({}))?;
    turn(&rig, site::OK)?;
    let capture = rig.capture()?;
    let ask = || dig(&rig, site::RESOLVER, &[TURNS, "A", "+short"]);
    let first = ask()?;
    ensure!(first.trim() == site::OK.to_string(), "{first}");
    turn(&rig, site::METADATA)?;
    let second = ask()?;
    ensure!(!second.contains("169.254"), "{second}");
    // A client that uses the address anyway is refused.
    for address in [site::METADATA, site::PRIVATE] {
        let there = format!("{TURNS}:80:{address}");
        let got = curl(&rig, &["-f", "--resolve", &there, &format!("http://{TURNS}/")]);
        ensure!(got.is_err(), "{address}: {got:?}");
    }
    forbidden_saw_nothing(&capture)
}

/// Connections of Envoy's user: the kernel evaluates them again, in case Envoy connects to a wrong address.
fn every_upstream_connection_of_envoy_is_evaluated() -> Result<()> {
    let (rig, _sidecar) = with(json!({ "allow_out": ["ok.test"] }))?;
    let capture = rig.capture()?;
    let dial = |url: &str| {
        let user = ["--reuid", "64321", "--regid", "64321", "--clear-groups", "--"];
        rig.gateway.command("setpriv").args(user).args(["curl", "-sS", "-m", "5", url]).output()
    };
    for url in [
        "http://169.254.169.254/",
        "http://10.1.2.3/",
        "http://[fd00::1]/",
        "http://[fe80::1]/",
        "http://192.0.2.2/",
        "http://198.51.100.2/",
        "http://127.0.0.2/",
    ] {
        is_immediate(url, || {
            let begun = Instant::now();
            let done = dial(url)?;
            ensure!(!done.status.success(), "{url} was reached");
            Ok(begun.elapsed())
        })?;
    }
    for url in ["http://203.0.113.10/", "http://[2001:db8:c::10]/"] {
        let done = dial(url)?;
        ensure!(done.status.success(), "{url}: {}", String::from_utf8_lossy(&done.stderr));
    }
    forbidden_saw_nothing(&capture)
}
