//! Sandbox and sidecar as two containers.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use sandgate_egress_tests::{Containers, Setup, site};
use serde_json::{Value, json};

use crate::support::tests;

tests![
    only_what_the_policy_allows_gets_out_of_the_sandboxs_container,
    without_the_sidecars_container_nothing_gets_out,
];

/// Retries until requests succeed, or until they fail.
fn wait_until(containers: &Containers, url: &str, answered: bool) -> Result<()> {
    let begun = Instant::now();
    loop {
        let (status, said) = containers.curl(url)?;
        if (status == 0 && said.contains("\"request\"")) == answered {
            return Ok(());
        }
        ensure!(begun.elapsed() < Duration::from_secs(60), "{url}: still {status} {said}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn only_what_the_policy_allows_gets_out_of_the_sandboxs_container() -> Result<()> {
    let policy = json!({ "allow_internet_access": false, "allow_out": ["ok.test", "10.0.0.0/8"] });
    let containers = Containers::start(&Setup::new(policy))?;
    let capture = containers.rig.capture()?;
    for (url, host) in [("https://ok.test/", "ok.test"), ("http://10.1.2.3/", "10.1.2.3")] {
        let (status, said) = containers.curl(url)?;
        ensure!(status == 0, "{url}: {status} {said}");
        let answer: Value = serde_json::from_str(&said)?;
        ensure!(answer["host"] == host, "{url}: {said}");
    }
    // curl's exit code: could not resolve the host.
    ensure!(containers.curl("https://other.test/")?.0 == 6);
    let (status, _) = containers.curl("https://203.0.113.20/")?;
    // curl's exit codes: could not connect, TLS handshake failed, empty reply, receive failed.
    ensure!([7, 35, 52, 56].contains(&status), "{status}");
    let (_, said) = containers.curl("http://203.0.113.20/")?;
    ensure!(said.contains("EGRESS_DENIED"), "{said}");
    ensure!(capture.to(site::OTHER).is_empty(), "{:?}", capture.to(site::OTHER));

    containers.write(&json!({ "deny_out": ["203.0.113.10"] }))?;
    wait_until(&containers, "http://203.0.113.20/", true)?;
    wait_until(&containers, "http://203.0.113.10/", false)
}

fn without_the_sidecars_container_nothing_gets_out() -> Result<()> {
    let containers = Containers::start(&Setup::new(json!({})))?;
    wait_until(&containers, "http://203.0.113.10/", true)?;
    let udp = || containers.rig.sandbox.udp(site::OK, site::UDP_PORT, b"hello");
    ensure!(udp()?.outcome.text().as_deref() == Some("hello"));
    containers.kill_sidecar()?;
    let (status, said) = containers.curl("http://203.0.113.10/")?;
    ensure!(status != 0, "{said}");
    // Traffic that nftables alone permits ends within 2 s.
    let begun = Instant::now();
    while udp()?.outcome.text().is_some() {
        ensure!(begun.elapsed() < Duration::from_secs(30), "UDP gets out without a sidecar");
    }
    Ok(())
}
