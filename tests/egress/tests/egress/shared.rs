//! Sandbox and sidecar in one network namespace: holds for users that are neither root, Envoy nor the agent.

use anyhow::{Result, ensure};
use sandgate_egress_tests::{Rig, Setup, Sidecar, site};
use serde_json::{Value, json};

use crate::support::tests;

tests![a_user_of_a_shared_namespace_gets_what_the_policy_allows];

/// What a program prints and how it ends, as a user without privileges.
fn as_user(rig: &Rig, arguments: &[&str]) -> Result<(bool, String)> {
    let user = ["--reuid", "4242", "--regid", "4242", "--clear-groups", "--"];
    let done = rig.sandbox.command("setpriv").args(user).args(arguments).output()?;
    let said = [done.stdout, done.stderr].concat();
    Ok((done.status.success(), String::from_utf8_lossy(&said).into_owned()))
}

fn a_user_of_a_shared_namespace_gets_what_the_policy_allows() -> Result<()> {
    let rig = Rig::build()?;
    // There is a way out, for all.
    rig.gateway
        .run("sysctl", &["-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"])?;
    let mut setup =
        Setup::new(json!({ "deny_out": ["203.0.113.20", "2001:db8:c::20", "example.com"] }));
    setup.operator["protected"] = json!([]);
    setup.shared = true;
    let mut sidecar = Sidecar::start(&rig, &setup)?;
    let capture = rig.capture()?;
    let curl = |url: &str| as_user(&rig, &["curl", "-sS", "-m", "10", url]);
    for (url, address) in
        [("http://203.0.113.10/", site::OK), ("http://[2001:db8:c::10]/", site::OK6)]
    {
        let (good, said) = curl(url)?;
        ensure!(good, "{url}: {said}");
        let answer: Value = serde_json::from_str(&said)?;
        ensure!(answer["address"] == address.to_string(), "{answer}");
    }
    let (good, said) = curl("http://203.0.113.20:22/")?;
    ensure!(!good, "{said}");
    let server = format!("@{}", site::RESOLVER);
    for transport in ["+notcp", "+tcp"] {
        let dig =
            |name| as_user(&rig, &["dig", &server, name, "A", transport, "+tries=1", "+time=5"]);
        let (_, said) = dig("ok.test")?;
        ensure!(said.contains("203.0.113.10"), "{said}");
        let (_, said) = dig("example.com")?;
        ensure!(said.contains("status: NXDOMAIN"), "{said}");
    }
    for address in [site::OTHER, site::OTHER6, site::METADATA] {
        ensure!(capture.to(address).is_empty(), "{address} saw {:?}", capture.to(address));
    }
    // An agent that is gone leaves nothing open.
    sidecar.terminate()?;
    let (good, said) = curl("http://203.0.113.10/")?;
    ensure!(!good, "{said}");
    Ok(())
}
