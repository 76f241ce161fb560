//! A demo sandbox behind a real sidecar, in network namespaces of its own. It needs root.
//!
//! ```text
//! sandbox 192.0.2.2 ── gateway: `sandgate-sidecar` ── internet: internet.rs, TEST-NET addresses
//! ```
//!
//! It is independent of the control plane of the local run. The sandboxes of that control plane are processes on this
//! machine's loopback without a sidecar, so it runs with `--egress none` and accepts no network policy. The policy of the
//! sandbox here is a file, which the sidecar reads again when it changes.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::artifacts::{egress_filter, filters, program, root};
use crate::certificate::Certificates;
use crate::files::{create_private_folder, write_private};
use crate::process::Process;

/// A host on the internet of the sandbox.
#[derive(Clone, Copy, Debug)]
pub struct Site {
    pub name: &'static str,
    pub address: Ipv4Addr,
}

/// The site that the policy allows at the start.
pub const ALLOWED: Site = Site { name: "packages.test", address: Ipv4Addr::new(203, 0, 113, 10) };
/// The other site.
pub const DENIED: Site = Site { name: "elsewhere.test", address: Ipv4Addr::new(203, 0, 113, 20) };
/// The address of the sandbox.
pub const SANDBOX_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// The address from which the edge connects to the sandbox.
pub const EDGE_ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

const RESOLVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 53);
const PROGRAMS: [&str; 4] = ["ip", "nft", "setpriv", "sysctl"];
const NAMESPACES: [&str; 3] = ["sandbox", "gateway", "internet"];
const PATIENCE: Duration = Duration::from_secs(10);
/// Kernel features that the sidecar needs, and that some kernels don't have.
const PROBE: &str = "
table inet sandgate_probe {
  chain names { type filter hook prerouting priority mangle; udp dport 53 tproxy to :53 meta mark set 1 accept; }
  chain connections { type nat hook prerouting priority dstnat; meta l4proto tcp redirect to :1; }
  chain refused { type filter hook forward priority filter; reject with icmpx type admin-prohibited; }
}
";

/// A network policy that allows only this name.
#[must_use]
pub fn policy(name: &str) -> Value {
    json!({ "allow_internet_access": false, "allow_out": [name] })
}

/// The reason why this machine can't run a sidecar, as a part of a sentence, or `None`.
#[must_use]
pub fn obstacle() -> Option<String> {
    find_obstacle(nix::unistd::geteuid().is_root(), &is_on_path, &run)
}

fn find_obstacle(
    is_root: bool,
    is_installed: &dyn Fn(&str) -> bool,
    run: &dyn Fn(&[&str], &str) -> Result<Output>,
) -> Option<String> {
    if !is_root {
        return Some("network namespaces need root".to_owned());
    }
    if let Some(missing) = PROGRAMS.into_iter().find(|program| !is_installed(program)) {
        return Some(format!("`{missing}` is missing; install it with: scripts/setup sidecar"));
    }
    let name = format!("sandgate-probe-{}", std::process::id());
    let refused = |command: &[&str], input: &str| match run(command, input) {
        Ok(output) if output.status.success() => None,
        Ok(output) => {
            let error = String::from_utf8_lossy(&output.stderr);
            let reason = error.trim().lines().next().unwrap_or("no reason given");
            Some((command.join(" "), reason.to_owned()))
        }
        Err(error) => Some((command.join(" "), error.to_string())),
    };
    let failed = refused(&["ip", "netns", "add", &name], "").or_else(|| {
        let failed = refused(&["ip", "netns", "exec", &name, "nft", "-f", "-"], PROBE);
        failed.or(refused(&["ip", "netns", "del", &name], ""))
    });
    if failed.is_some() {
        // It fails if the namespace does not exist.
        drop(run(&["ip", "netns", "del", &name], ""));
    }
    failed.map(|(command, reason)| {
        format!("this machine permits no network namespace with a firewall (`{command}`: {reason})")
    })
}

fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn run(command: &[&str], input: &str) -> Result<Output> {
    use std::io::Write as _;

    let (program, arguments) = command.split_first().context("an empty command")?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // The command may end before it reads its input; its status tells.
        drop(stdin.write_all(input.as_bytes()));
    }
    Ok(child.wait_with_output()?)
}

/// The running sandbox with its sidecar. All of it is stopped when this value is dropped, in the order of the fields.
pub struct SidecarDemo {
    sidecar: Process,
    sandbox: Process,
    internet: Process,
    network: Process,
    prefix: String,
    certificates: Certificates,
    folder: PathBuf,
}

impl SidecarDemo {
    /// Starts everything, and waits until the policy is enforced. The logs are in the folder `state`.
    pub async fn start(state: &Path, envoy: &Path) -> Result<Self> {
        let (prefix, folder) = (prefix(state), state.join("sidecar"));
        create_private_folder(&folder)?;
        // The authority is limited to the last name and the names below it.
        let certificates = Certificates::ensure(&folder, &[ALLOWED.name, DENIED.name, "test"])?;
        write_private(&folder.join("policy.json"), &format!("{}\n", policy(ALLOWED.name)))?;
        // The sites' addresses are reserved for documentation; these settings make them a part of the internet.
        let operator = json!({ "also_global": ["203.0.113.0/24"], "protected": ["192.0.2.0/30"] });
        write_private(&folder.join("operator.json"), &format!("{operator}\n"))?;
        let starter = Starter { prefix: &prefix, state };

        let mut command = network_command(&prefix);
        command.args([ALLOWED.address.to_string(), DENIED.address.to_string()]);
        let network = starter.launch("the sidecar's network", "network", "built", &command).await?;

        let mut command = starter.inside("internet");
        command.arg(std::env::current_exe()?).args(["internet", &RESOLVER.to_string()]);
        command.arg(certificates.directory());
        command.args([ALLOWED, DENIED].map(|site| format!("{}={}", site.name, site.address)));
        let internet =
            starter.launch("the internet of the sandbox", "internet", "ready", &command).await?;

        let mut command = starter.inside("sandbox");
        command.arg(program("sandgate-demo")?).args(["serve", "--id", "behind-a-sidecar"]);
        command.args(["--address", &SANDBOX_ADDRESS.to_string()]);
        let sandbox =
            starter.launch("the sandbox behind the sidecar", "sandbox", "ready", &command).await?;

        let sidecar = starter.start_sidecar(&folder, envoy).await?;
        Ok(Self { sidecar, sandbox, internet, network, prefix, certificates, folder })
    }

    /// Fails if a part has ended.
    pub fn require_running(&mut self) -> Result<()> {
        self.network.require_running()?;
        self.internet.require_running()?;
        self.sandbox.require_running()?;
        self.sidecar.require_running()
    }

    /// The start of a command that runs in a namespace.
    #[must_use]
    pub fn inside(&self, namespace: &str) -> Vec<String> {
        let namespace = format!("{}-{namespace}", self.prefix);
        vec!["ip".to_owned(), "netns".to_owned(), "exec".to_owned(), namespace]
    }

    /// The file with the sandbox's network policy.
    #[must_use]
    pub fn policy_file(&self) -> PathBuf {
        self.folder.join("policy.json")
    }

    /// The certificate authority of the sites.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.certificates.authority()
    }
}

struct Starter<'a> {
    prefix: &'a str,
    state: &'a Path,
}

impl Starter<'_> {
    fn inside(&self, namespace: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &format!("{}-{namespace}", self.prefix)]);
        command
    }

    /// Starts a program, and waits until it prints a line that contains `ready` as a word.
    async fn launch(
        &self,
        name: &str,
        log: &str,
        ready: &str,
        command: &Command,
    ) -> Result<Process> {
        let log = self.state.join(format!("sidecar-{log}.log"));
        let mut process = Process::start(name, command, &log)?.with_patience(PATIENCE);
        process
            .until("was not ready", Duration::from_secs(30), async |process| {
                Ok(process.output().split_whitespace().any(|word| word == ready).then_some(()))
            })
            .await?;
        Ok(process)
    }

    async fn start_sidecar(&self, folder: &Path, envoy: &Path) -> Result<Process> {
        let ready = folder.join("ready");
        // A sidecar that was killed may have left it.
        drop(std::fs::remove_file(&ready));
        // Envoy runs as a user who may not be able to reach the folders of the program and the filter. They get paths that
        // are mounted in the mount namespace of `ip netns exec` only.
        let run = run_folder(self.prefix);
        let (reachable, filter) = (run.join("envoy"), run.join("filter"));
        let form = filters()?;
        let mut command = self.inside("gateway");
        let mount = r#"mount --bind "$0" "$1" && mount --bind "$2" "$3" && shift 3 && exec "$@""#;
        command.args(["sh", "-c", mount]);
        for (original, mounted) in [(envoy, &reachable), (&egress_filter(form)?, &filter)] {
            std::fs::write(mounted, "")?;
            command.arg(original).arg(mounted);
        }
        command.arg(program("sandgate-sidecar")?).args(["--filters", form.name()]);
        command.args(["--sandbox-interface", "sandbox0", "--edge", &format!("{EDGE_ADDRESS}/32")]);
        command.args(["--resolver", &RESOLVER.to_string()]);
        command.arg("--policy-file").arg(folder.join("policy.json"));
        command.arg("--operator-file").arg(folder.join("operator.json"));
        command.arg("--envoy").arg(&reachable).arg("--filter").arg(&filter);
        command.arg("--run-dir").arg(run.join("sidecar")).arg("--ready-file").arg(&ready);
        command.arg("--status-file").arg(folder.join("status.json"));
        let log = self.state.join("sidecar.log");
        let mut process = Process::start("the sidecar", &command, &log)?.with_patience(PATIENCE);
        process
            .until("was not ready", Duration::from_secs(60), async |_| {
                Ok(ready.exists().then_some(()))
            })
            .await?;
        Ok(process)
    }
}

/// A program that creates the namespaces, and removes them when it ends. The arguments that follow are the addresses of
/// the internet.
#[must_use]
pub fn network_command(prefix: &str) -> Command {
    let mut command = Command::new(root().join("tests/stack/namespaces.sh"));
    command.args([prefix, &RESOLVER.to_string()]);
    command
}

fn run_folder(prefix: &str) -> PathBuf {
    Path::new("/run").join(prefix)
}

/// The prefix of the names of the namespaces. It depends on the state folder, so runs don't share namespaces.
#[must_use]
pub fn prefix(state: &Path) -> String {
    // The first 32 bits of SHA-256: programs outside this tree find the namespaces by this rule.
    let digest = Sha256::digest(state.as_os_str().as_encoded_bytes());
    let [a, b, c, d, ..]: [u8; 32] = digest.into();
    let hash = u32::from_be_bytes([a, b, c, d]);
    format!("sandgate-{hash:08x}")
}

/// The paths that a run should have removed at its end and that still exist.
#[must_use]
pub fn left_behind(state: &Path) -> Vec<PathBuf> {
    let prefix = prefix(state);
    let mut paths: Vec<PathBuf> =
        NAMESPACES.map(|name| Path::new("/run/netns").join(format!("{prefix}-{name}"))).into();
    paths.extend([Path::new("/etc/netns").join(format!("{prefix}-sandbox")), run_folder(&prefix)]);
    paths.retain(|path| path.symlink_metadata().is_ok());
    paths
}

#[cfg(test)]
mod tests;
