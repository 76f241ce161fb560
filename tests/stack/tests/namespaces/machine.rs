//! A control plane with sandboxes in network namespaces, and what they reach.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ipnet::Ipv4Net;
use sandgate_netns::Prefix;
use sandgate_stack::artifacts::envoy_program;
use sandgate_stack::control_plane::{DOMAIN, Namespaces};
use sandgate_stack::local_run::far_side::{FarSide, namespace};
use sandgate_stack::local_run::platform::left_behind;
use sandgate_stack::network::free_range;
use sandgate_stack::wait::until;
use sandgate_stack::{Client, ControlPlane, ControlPlaneSetup, Owner, Runtime, Sandbox};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The longest wait in a test. Long, because other tests may keep the machine busy.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Runs a test. All processes belong to its thread.
pub(crate) fn run(test: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(test)
}

/// The policy that allows nothing but these destinations.
pub(crate) fn only(destinations: &[&str]) -> Value {
    json!({ "allow_internet_access": false, "allow_out": destinations })
}

/// The settings of a test's control plane.
#[derive(Clone, Debug, Default)]
pub(crate) struct Setup {
    pub(crate) range: Option<Ipv4Net>,
    /// A bash script that is the program of a sandbox.
    pub(crate) program: Option<&'static str>,
}

/// A control plane, and the internet of its sandboxes.
pub(crate) struct Machine {
    pub(crate) control_plane: ControlPlane,
    pub(crate) owner: Owner,
    pub(crate) range: Ipv4Net,
    _far_side: FarSide,
    folder: TempDir,
}

impl Machine {
    pub(crate) async fn start(setup: Setup) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("sandgate-namespaces-").tempdir()?;
        let far_side = FarSide::start(folder.path()).await?;
        let range = setup.range.map_or_else(free_range, Ok)?;
        let program = setup.program.map(|script| write_program(folder.path(), script));
        let namespaces = Namespaces {
            program: program.transpose()?,
            ..far_side.runtime(folder.path(), range, &envoy_program()?)?
        };
        let control_plane = ControlPlane::start(ControlPlaneSetup {
            folder: folder.path().to_owned(),
            api: (Ipv4Addr::LOCALHOST, 0).into(),
            gateway: (Ipv4Addr::LOCALHOST, 0).into(),
            tls: None,
            gateway_tokens: vec!["a-gateway-token-of-a-test".to_owned()],
            domain: DOMAIN.to_owned(),
            proxy_url: "http://localhost:9443".to_owned(),
            drain_seconds: 3,
            enforces_egress: true,
            confirms_public_ports: false,
            runtime: Runtime::Namespaces(namespaces),
            patience: Duration::from_secs(30),
            desired_state: None,
            database: None,
        })
        .await;
        if control_plane.is_err() {
            let mut left = left_behind(folder.path());
            left.retain(|path| path.parent() == Some(Path::new("/run")));
            ensure!(left.is_empty(), "a server that did not start left {left:?}");
        }
        let control_plane = control_plane?;
        let owner = control_plane.new_owner("owner")?;
        Ok(Self { control_plane, owner, range, _far_side: far_side, folder })
    }

    pub(crate) async fn create(&self, name: &str, policy: Value) -> Result<Sandbox> {
        let request = json!({ "name": name, "network": policy });
        self.owner.create(self.control_plane.api(), request).await
    }

    pub(crate) async fn set_policy(&self, sandbox: &Sandbox, policy: Value) -> Result<()> {
        let change = json!({ "network": policy });
        self.owner.patch(self.control_plane.api(), sandbox, change).await.map(drop)
    }

    pub(crate) async fn resume(&self, sandbox: &Sandbox) -> Result<()> {
        let path = format!("/sandboxes/{}/resume", sandbox.id);
        let call = self.owner.call(self.control_plane.api(), http::Method::POST, &path);
        let answer = call.send().await?;
        ensure!(answer.status.is_success(), "not resumed: {} {}", answer.status, answer.text());
        self.owner.wait_for(self.control_plane.api(), sandbox, "running").await
    }

    /// The name of a namespace of a sandbox: `sandbox`, or `gateway`.
    pub(crate) fn namespace(&self, sandbox: &Sandbox, which: &str) -> Result<String> {
        let data = std::fs::canonicalize(self.folder.path().join("data"))?;
        Ok(format!("{}-{}-{which}", Prefix::of(&data), sandbox.id))
    }

    /// Runs a bash script in a sandbox, as the user of its program.
    pub(crate) fn inside(&self, sandbox: &Sandbox, script: &str) -> Result<Output> {
        Ok(self.command_inside(sandbox, script)?.output()?)
    }

    pub(crate) fn command_inside(&self, sandbox: &Sandbox, script: &str) -> Result<Command> {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(sandbox, "sandbox")?]);
        let uid = self.users(sandbox, "sandbox")?.pop().context("no program")?.to_string();
        command.args(["setpriv", "--reuid", &uid, "--regid", &uid, "--clear-groups"]);
        command.args(["timeout", "30", "bash", "-c", script]);
        Ok(command)
    }

    /// Fetches a URL from inside, and returns curl's exit status and output.
    pub(crate) fn fetch(&self, sandbox: &Sandbox, url: &str) -> Result<(Option<i32>, String)> {
        let output = self.inside(sandbox, &format!("curl -sS --max-time 20 {url} 2>&1"))?;
        Ok((output.status.code(), String::from_utf8(output.stdout)?))
    }

    pub(crate) fn address(&self, sandbox: &Sandbox) -> Result<IpAddr> {
        let namespace = self.namespace(sandbox, "sandbox")?;
        let output = run_ip(&["-n", &namespace, "-4", "-o", "address", "show", "dev", "eth0"])?;
        // "2: eth0    inet 10.204.0.6/30 scope global eth0\…"
        let network = output.split_whitespace().nth(3).context("no address")?;
        Ok(network.split('/').next().unwrap_or_default().parse()?)
    }

    /// The demo sandbox, as an edge on this machine reaches it.
    pub(crate) fn edge(&self, sandbox: &Sandbox) -> Result<Client> {
        Ok(Client::new(SocketAddr::new(self.address(sandbox)?, 8080)))
    }

    /// Whether suspended sandboxes are frozen. Where no cgroup can be written, they end.
    pub(crate) fn freezes(&self) -> bool {
        self.made().iter().any(|path| path.contains("/cgroup"))
    }

    /// The processes in a namespace of a sandbox. There are none without the namespace.
    pub(crate) fn processes(&self, sandbox: &Sandbox, which: &str) -> Result<Vec<i32>> {
        let name = self.namespace(sandbox, which)?;
        if !Path::new("/run/netns").join(&name).exists() {
            return Ok(Vec::new());
        }
        let listed = run_ip(&["netns", "pids", &name])?;
        let mut pids: Vec<i32> = listed.lines().filter_map(|line| line.parse().ok()).collect();
        pids.sort_unstable();
        Ok(pids)
    }

    /// The users of the processes in a namespace of a sandbox, in ascending order.
    pub(crate) fn users(&self, sandbox: &Sandbox, which: &str) -> Result<Vec<u32>> {
        let processes = self.processes(sandbox, which)?.into_iter();
        let statuses = processes.map(|pid| std::fs::read_to_string(format!("/proc/{pid}/status")));
        // A process may end meanwhile.
        let users = statuses.flatten().filter_map(|status| {
            let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
            line.split_whitespace().next()?.parse().ok()
        });
        let mut users: Vec<u32> = users.collect();
        users.sort_unstable();
        Ok(users)
    }

    /// The open connections at the far side.
    pub(crate) fn connections_outside(&self) -> Result<String> {
        self.outside(&["ss", "-Htn", "state", "established"])
    }

    /// Counts the packets from sandboxes and their gateways that arrive at the far side from now on.
    pub(crate) fn count_arrivals(&self) -> Result<()> {
        let chain = format!(
            "add table ip t; add chain ip t c {{ type filter hook input priority 0; }}; \
             add rule ip t c ip saddr {} counter",
            self.range
        );
        self.outside(&["nft", &chain]).map(drop)
    }

    pub(crate) fn arrivals(&self) -> Result<u64> {
        let rules = self.outside(&["nft", "list", "chain", "ip", "t", "c"])?;
        let number = rules.split_once("packets ").and_then(|(_, rest)| rest.split(' ').next());
        Ok(number.context("no counter")?.parse()?)
    }

    fn outside(&self, command: &[&str]) -> Result<String> {
        let internet = namespace(self.folder.path());
        run_ip(&[&["netns", "exec", internet.name()], command].concat())
    }

    /// A file of a sandbox's own `/tmp`.
    pub(crate) fn own_file(&self, sandbox: &Sandbox, name: &str) -> Result<PathBuf> {
        let processes = self.processes(sandbox, "sandbox")?;
        let inner = processes.last().context("no process")?;
        Ok(Path::new("/proc").join(inner.to_string()).join("root/tmp").join(name))
    }

    /// What is left of a sandbox on this machine.
    pub(crate) fn rest_of(&self, sandbox: &Sandbox) -> Vec<String> {
        let mut rest = self.made();
        rest.retain(|path| path.contains(&sandbox.id));
        rest
    }

    /// All that the control plane has made on this machine.
    pub(crate) fn made(&self) -> Vec<String> {
        let paths = left_behind(self.folder.path());
        let mut all: Vec<String> = Vec::new();
        for path in paths {
            let below = std::fs::read_dir(&path).into_iter().flatten().flatten();
            // Folders of sandboxes are in folders of the server.
            all.extend(below.map(|entry| entry.path().display().to_string()));
            all.push(path.display().to_string());
        }
        all
    }

    /// Waits until nothing of a sandbox is left.
    pub(crate) async fn until_gone(&self, sandbox: &Sandbox) -> Result<()> {
        until(&format!("nothing of {} is left", sandbox.id), LIMIT, async || {
            let rest = self.rest_of(sandbox);
            ensure!(rest.is_empty(), "{rest:?}");
            Ok(Some(()))
        })
        .await
    }

    /// Stops the control plane as an operator does, and fails if anything is left.
    pub(crate) fn stop(self) -> Result<()> {
        let Self { control_plane, _far_side: far_side, folder, .. } = self;
        drop(control_plane);
        drop(far_side);
        let left = left_behind(folder.path());
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    }
}

pub(crate) fn run_ip(arguments: &[&str]) -> Result<String> {
    let output = Command::new("ip").args(arguments).output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {}: {error}", arguments.join(" "));
    Ok(String::from_utf8(output.stdout)?)
}

fn write_program(folder: &Path, script: &str) -> Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;

    let path = folder.join("program.sh");
    std::fs::write(&path, format!("#!/bin/bash\n{script}\n"))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    Ok(path)
}
