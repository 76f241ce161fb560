//! `make run` where the machine permits no network namespaces: it says what is not enforced, and all else works.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use http::Method;
use sandgate_stack::artifacts::program;
use sandgate_stack::ports::Ports;
use sandgate_stack::wait::until;
use sandgate_stack::{Client, Process};
use serde_json::json;

use crate::machine::{LIMIT, only, run};

pub(crate) fn without_root_policies_are_refused_and_the_run_says_so() -> Result<()> {
    // Root outside of a namespace of users that has no root.
    refuses_policies(&["unshare", "--user", "--"], "network namespaces need root")
}

pub(crate) fn in_a_restricted_container_policies_are_refused_and_the_run_says_so() -> Result<()> {
    let restricted = ["setpriv", "--bounding-set", "-sys_admin", "--"];
    refuses_policies(&restricted, "this machine permits no network namespace with a firewall")
}

fn refuses_policies(wrapper: &[&str], reason: &str) -> Result<()> {
    run(async {
        let folder = tempfile::tempdir()?;
        let ports = Ports::free()?;
        let output = folder.path().join("output");
        let (first, rest) = wrapper.split_first().context("no wrapper")?;
        let mut command = Command::new(first);
        command.args(rest).arg(program("sandgate-stack")?).arg("run");
        command.env("SANDGATE_STATE_DIR", folder.path().join("state"));
        command.env("SANDGATE_SANDBOX_NETWORK", "127.66.0.0");
        for (name, port) in ports.by_variable() {
            command.env(format!("SANDGATE_{name}_PORT"), port.to_string());
        }
        let mut process =
            Process::start("the run", &command, &output)?.with_patience(Duration::from_secs(20));
        process
            .until("was not ready", LIMIT * 2, async |process| {
                Ok(process.output().contains("Sandgate is ready.").then_some(()))
            })
            .await?;
        let text = process.output();
        let sentence = format!("Network policies are not enforced, and refused: {reason}");
        ensure!(text.contains(&sentence), "{text}");
        let key = variable(&folder.path().join("state/env"), "TENSORLAKE_API_KEY")?;
        let api = Client::new(SocketAddr::from((Ipv4Addr::LOCALHOST, ports.api)));
        let call = api.request(Method::PATCH, "api", "/sandboxes/my-env").bearer(&key);
        let answer = call.json(&json!({ "network": only(&[]) })).send().await?;
        ensure!(answer.text().contains("NETWORK_POLICY_UNSUPPORTED"), "{}", answer.text());
        // The run itself has sent a request through the edge.
        let edge = Client::new(SocketAddr::from((Ipv4Addr::LOCALHOST, ports.edge)));
        let host = format!("8080-my-public-sandbox.sandbox.localhost:{}", ports.edge);
        until("a public port answers", LIMIT, async || {
            let answer = edge.get(&host, "/health").send().await?;
            Ok(answer.status.is_success().then_some(()))
        })
        .await?;
        try_what_it_prints(&folder.path().join("state"))
    })
}

/// Runs the commands of the screen and of docs/tour.md that need no sidecar.
fn try_what_it_prints(state: &Path) -> Result<()> {
    let mut command = Command::new(program("sandgate-stack")?);
    // In CI, it also fails because some commands are left out.
    command.arg("try").env("SANDGATE_STATE_DIR", state).env_remove("CI").stdin(Stdio::null());
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    ensure!(text.contains("the Python SDK runs a command inside the sandbox"), "{text}");
    Ok(())
}

/// A variable of the env file.
fn variable(file: &Path, name: &str) -> Result<String> {
    let text = std::fs::read_to_string(file)?;
    let start = format!("export {name}=");
    let value = text.lines().find_map(|line| line.strip_prefix(&start));
    Ok(value.with_context(|| format!("no {name} in {text}"))?.trim_matches('\'').to_owned())
}
