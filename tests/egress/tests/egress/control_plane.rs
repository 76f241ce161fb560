//! The policy from the real control plane: the running sidecar enforces what the owner sets.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use sandgate_egress_tests::process::Process;
use sandgate_egress_tests::sidecar::built;
use sandgate_egress_tests::{Rig, Setup, Sidecar, site};
use serde_json::{Value, json};

use crate::support::{refused_immediately, tests};

tests![
    the_owners_policy_is_enforced,
    an_outage_of_the_control_plane_changes_nothing,
    a_deleted_sandbox_gets_nothing_out,
];

/// A control plane in the gateway's namespace, and an owner with a sandbox.
struct Owner {
    process: Process,
    api: String,
    gateway: String,
    key: String,
    sandbox: String,
}

const TOKEN: &str = "egress-gateway-token-0123456789abcdef";

fn serve(rig: &Rig, gateway_port: &str) -> Result<(Process, String, String)> {
    let program = built("debug/sandgate", "cargo build --package sandgate")?.display().to_string();
    let demo =
        built("debug/sandgate-demo", "cargo build --package sandgate-demo")?.display().to_string();
    let path = |name: &str| rig.folder().join(name).display().to_string();
    std::fs::write(path("gateway-tokens"), format!("{TOKEN}\n"))?;
    let mut command = rig.gateway.command(&program);
    command.args([
        "serve",
        "--data-dir",
        &path("data"),
        "--gateway-token-file",
        &path("gateway-tokens"),
    ]);
    command.args([
        "--api-listen",
        "127.0.0.1:0",
        "--gateway-listen",
        &format!("127.0.0.1:{gateway_port}"),
    ]);
    command.args(["--local-program", &demo, "--egress", "enforced"]);
    let name = format!("control-plane-{gateway_port}");
    let mut process = Process::start(&command, rig.folder(), &name)?;
    let begun = Instant::now();
    loop {
        let output = process.output();
        if let Some(ready) = output.lines().find(|line| line.starts_with("ready: ")) {
            let mut urls =
                ready.split(' ').filter(|word| word.starts_with("http://")).map(str::to_owned);
            let (api, gateway) = (urls.next(), urls.next());
            return Ok((process, api.context("no API")?, gateway.context("no gateway API")?));
        }
        if process.ended().is_some() || begun.elapsed() > Duration::from_secs(60) {
            bail!("the control plane does not start: {output}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Owner {
    fn new(rig: &Rig, network: &Value) -> Result<Self> {
        let (process, api, gateway) = serve(rig, "0")?;
        let program =
            built("debug/sandgate", "cargo build --package sandgate")?.display().to_string();
        let data = rig.folder().join("data").display().to_string();
        let manage = |arguments: &[&str]| -> Result<Value> {
            let mut all = arguments.to_vec();
            all.extend(["--data-dir", &data, "--json"]);
            Ok(serde_json::from_str(&rig.gateway.run(&program, &all)?)?)
        };
        let text = |value: &Value| value.as_str().map(str::to_owned).context("not a text");
        let organization = text(&manage(&["orgs", "create", "rig"])?["id"])?;
        let project =
            text(&manage(&["projects", "create", "rig", "--organization", &organization])?["id"])?;
        let key = text(&manage(&["keys", "create", "--project", &project])?["secret"])?;
        let mut owner = Self { process, api, gateway, key, sandbox: String::new() };
        let made = owner.call(rig, "POST", "/sandboxes", &json!({ "network": network }))?;
        owner.sandbox = text(&made["sandbox_id"]).with_context(|| made.to_string())?;
        std::fs::write(
            rig.folder().join("token"),
            rig.gateway.run(
                &program,
                &[
                    "keys",
                    "sidecar",
                    &owner.sandbox,
                    "--gateway-token-file",
                    &rig.folder().join("gateway-tokens").display().to_string(),
                ],
            )?,
        )?;
        Ok(owner)
    }

    fn call(&self, rig: &Rig, method: &str, path: &str, body: &Value) -> Result<Value> {
        let said = rig.gateway.run(
            "curl",
            &[
                "-sS",
                "-m",
                "20",
                "-X",
                method,
                &format!("{}{path}", self.api),
                "-H",
                &format!("Authorization: Bearer {}", self.key),
                "-H",
                "Content-Type: application/json",
                "-d",
                &body.to_string(),
            ],
        )?;
        if said.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&said).with_context(|| said.clone())
    }

    fn set(&self, rig: &Rig, network: &Value) -> Result<()> {
        let answer = self.call(
            rig,
            "PATCH",
            &format!("/sandboxes/{}", self.sandbox),
            &json!({ "network": network }),
        )?;
        ensure!(answer.get("code").is_none(), "{answer}");
        Ok(())
    }

    fn sidecar(&self, rig: &Rig) -> Result<Sidecar> {
        let mut setup = Setup::new(json!({}));
        let token = rig.folder().join("token").display().to_string();
        setup.source = Some(
            ["--control-plane", &self.gateway, "--sandbox", &self.sandbox, "--token-file", &token]
                .map(str::to_owned)
                .to_vec(),
        );
        Sidecar::start(rig, &setup)
    }
}

/// Waits until a connection succeeds if `open`, or fails otherwise.
fn wait_until(rig: &Rig, address: IpAddr, open: bool) -> Result<()> {
    let begun = Instant::now();
    loop {
        let spent = rig.sandbox.tcp(address, site::BANNER_PORT, b"")?;
        if spent.outcome.text().is_some() == open {
            return Ok(());
        }
        ensure!(begun.elapsed() < Duration::from_secs(60), "still {:?}", spent.outcome);
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn the_owners_policy_is_enforced() -> Result<()> {
    let rig = Rig::build()?;
    let owner = Owner::new(&rig, &json!({ "allow_internet_access": false }))?;
    let _sidecar = owner.sidecar(&rig)?;
    refused_immediately("off", || rig.sandbox.tcp(site::OK, site::BANNER_PORT, b""))?;
    owner.set(&rig, &json!({ "allow_internet_access": false, "allow_out": ["203.0.113.10"] }))?;
    wait_until(&rig, site::OK, true)?;
    refused_immediately("not listed", || rig.sandbox.tcp(site::OTHER, site::BANNER_PORT, b""))?;
    owner.set(&rig, &json!({ "deny_out": ["203.0.113.10"] }))?;
    wait_until(&rig, site::OK, false)?;
    // This change is the last one that is applied.
    wait_until(&rig, site::OTHER, true)
}

fn an_outage_of_the_control_plane_changes_nothing() -> Result<()> {
    let rig = Rig::build()?;
    let mut owner = Owner::new(&rig, &json!({ "deny_out": ["203.0.113.20"] }))?;
    let sidecar = owner.sidecar(&rig)?;
    owner.process.kill()?;
    sidecar.until("complaining", |status| status["problem"].as_str().map(|_| ()))?;
    ensure!(sidecar.says_ready());
    wait_until(&rig, site::OK, true)?;
    refused_immediately("denied", || rig.sandbox.tcp(site::OTHER, site::BANNER_PORT, b""))?;
    // The control plane restarts at the same address, and the agent follows it again.
    let port =
        owner.gateway.rsplit(':').next().unwrap_or_default().trim_end_matches('/').to_owned();
    let (process, api, _) = serve(&rig, &port)?;
    (owner.process, owner.api) = (process, api);
    owner.set(&rig, &json!({ "deny_out": ["203.0.113.10"] }))?;
    wait_until(&rig, site::OK, false)
}

fn a_deleted_sandbox_gets_nothing_out() -> Result<()> {
    let rig = Rig::build()?;
    let owner = Owner::new(&rig, &json!({}))?;
    let _sidecar = owner.sidecar(&rig)?;
    wait_until(&rig, site::OK, true)?;
    owner.call(&rig, "DELETE", &format!("/sandboxes/{}", owner.sandbox), &json!({}))?;
    wait_until(&rig, site::OK, false)?;
    refused_immediately("udp", || rig.sandbox.udp(site::OK, site::UDP_PORT, b"hello"))
}
