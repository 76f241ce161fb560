//! The three network namespaces and their links. A guard process removes them.

use std::fs::Permissions;
use std::net::IpAddr;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::capture::Capture;
use crate::netns::{Namespace, output};
use crate::servers::Internet;
use crate::site;

/// Creates the namespaces and links. Arguments: the prefix of the names (`$1`), processes whose namespaces become the
/// sandbox and the gateway (`$2`, `$3`; empty for new namespaces), and the addresses of the internet (the rest). Removes
/// everything when standard input ends: when the [`Rig`] is dropped, or the tests are killed.
const BUILD: &str = r#"
set -e
p=$1 sandbox=$2 gateway=$3 internet=; shift 3
clean() {
  trap - EXIT
  for n in sandbox gateway internet; do
    # A program that was left in there would keep the namespace alive.
    for pid in $(ip netns pids "$p-$n" 2>/dev/null); do kill -KILL "$pid" 2>/dev/null; done
    ip netns del "$p-$n" 2>/dev/null
  done
}
trap clean EXIT
trap '' INT TERM HUP
for n in sandbox gateway internet; do
  eval "process=\$$n"
  if [ "$process" ]; then ip netns attach "$p-$n" "$process"; else ip netns add "$p-$n"; fi
  # Addresses are good from the start: there is nobody else who might have them. A container has no IPv6 at first.
  ip netns exec "$p-$n" sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.all.accept_dad=0 \
    net.ipv6.conf.default.disable_ipv6=0 net.ipv6.conf.all.disable_ipv6=0
  ip -n "$p-$n" link set lo up
done
ip link add eth0 netns "$p-sandbox" type veth peer name sandbox0 netns "$p-gateway"
ip link add eth0 netns "$p-gateway" type veth peer name eth0 netns "$p-internet"
ip -n "$p-sandbox"  addr add 192.0.2.2/30 dev eth0
ip -n "$p-sandbox"  addr add 2001:db8:a::2/64 dev eth0 nodad
ip -n "$p-gateway"  addr add 192.0.2.1/30 dev sandbox0
ip -n "$p-gateway"  addr add 2001:db8:a::1/64 dev sandbox0 nodad
ip -n "$p-gateway"  addr add 198.51.100.2/30 dev eth0
ip -n "$p-gateway"  addr add 2001:db8:b::2/64 dev eth0 nodad
ip -n "$p-internet" addr add 198.51.100.1/30 dev eth0
ip -n "$p-internet" addr add 2001:db8:b::1/64 dev eth0 nodad
for link in sandbox:eth0 gateway:sandbox0 gateway:eth0 internet:eth0; do
  ip -n "$p-${link%%:*}" link set "${link##*:}" up
done
ip -n "$p-sandbox" route add default via 192.0.2.1
ip -n "$p-sandbox" -6 route add default via 2001:db8:a::1
ip -n "$p-gateway" route add default via 198.51.100.1
ip -n "$p-gateway" -6 route add default via 2001:db8:b::1
# The way back to the sandbox, for edges, and for what no gateway should let out.
ip -n "$p-internet" route add 192.0.2.0/30 via 198.51.100.2
ip -n "$p-internet" -6 route add 2001:db8:a::/64 via 2001:db8:b::2
for a in "$@"; do
  case $a in
    *:*) ip -n "$p-internet" addr add "$a/128" dev lo nodad ;;
    *) ip -n "$p-internet" addr add "$a/32" dev lo ;;
  esac
done
# A new namespace inherits what the machine's has: a gateway starts closed.
ip netns exec "$p-gateway" sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0
# A link is up some time after it was told to be.
for way in sandbox:192.0.2.1 sandbox:2001:db8:a::1 gateway:198.51.100.1 gateway:2001:db8:b::1; do
  until ip netns exec "$p-${way%%:*}" ping -n -c 1 -W 1 "${way#*:}" >/dev/null; do :; done
done
echo built
cat >/dev/null
"#;

/// Sandbox, gateway and internet.
pub struct Rig {
    /// The namespace of untrusted code.
    pub sandbox: Namespace,
    /// The namespace of the sidecar.
    pub gateway: Namespace,
    /// The namespace of all servers.
    pub internet: Namespace,
    /// The servers, and the DNS queries that they received.
    pub served: Internet,
    folder: TempDir,
    envoy_folder: TempDir,
    lifeline: Lifeline,
}

impl Rig {
    /// Creates a rig. No other test process uses its namespaces' names.
    pub fn build() -> Result<Self> {
        Self::around(["", ""])
    }

    /// Creates a rig with the namespaces of two processes as sandbox and gateway.
    pub(crate) fn around(processes: [&str; 2]) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("sandgate-{}-{count}", std::process::id());
        let lifeline = Lifeline::build(&prefix, processes)?;
        let internet = Namespace::named(format!("{prefix}-internet"));
        let served = Internet::start(&internet)?;
        Ok(Self {
            sandbox: Namespace::named(format!("{prefix}-sandbox")),
            gateway: Namespace::named(format!("{prefix}-gateway")),
            internet,
            served,
            folder: tempfile::tempdir()?,
            // Envoy's user reads files in it.
            envoy_folder: tempfile::Builder::new()
                .permissions(Permissions::from_mode(0o755))
                .tempdir()?,
            lifeline,
        })
    }

    /// The folder for the test's files.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The folder for Envoy's files, which no other rig uses.
    #[must_use]
    pub fn run_dir(&self) -> PathBuf {
        self.envoy_folder.path().join("run")
    }

    /// An empty file on which something of the sidecar's Envoy can be mounted.
    pub(crate) fn mount_point(&self, name: &str) -> Result<PathBuf> {
        let path = self.envoy_folder.path().join(name);
        std::fs::OpenOptions::new().append(true).create(true).mode(0o755).open(&path)?;
        Ok(path)
    }

    /// Starts a capture of the packets that arrive in `internet`.
    pub fn capture(&self) -> Result<Capture> {
        Capture::start(&self.internet, &self.gateway)
    }

    /// A program that runs in the sandbox with `resolver` as its system resolver.
    pub fn client(&self, resolver: IpAddr, program: &str) -> Result<Command> {
        let file = self.folder().join("resolv.conf");
        std::fs::write(&file, format!("nameserver {resolver}\noptions timeout:2 attempts:1\n"))?;
        // `ip netns exec` creates a mount namespace.
        let mut command = self.sandbox.command("sh");
        command.args(["-c", r#"mount --bind "$0" /etc/resolv.conf && exec "$@""#]);
        command.arg(file).arg(program);
        Ok(command)
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.served.stop();
        self.lifeline.cut();
    }
}

/// The guard process, which removes the namespaces when it is dropped.
struct Lifeline {
    builder: Child,
    held: Option<ChildStdin>,
}

impl Lifeline {
    fn build(prefix: &str, processes: [&str; 2]) -> Result<Self> {
        let mut builder = Command::new("sh")
            .args(["-c", BUILD, "sh", prefix])
            .args(processes)
            .args(site::ALL.map(|address| address.to_string()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("`sh` can't be started")?;
        let held = builder.stdin.take();
        let mut said = String::new();
        if let Some(stdout) = builder.stdout.take() {
            let mut reader = std::io::BufReader::new(stdout);
            std::io::BufRead::read_line(&mut reader, &mut said)?;
        }
        let mut lifeline = Self { builder, held };
        if said != "built\n" {
            lifeline.cut();
        }
        ensure!(said == "built\n", "the network namespaces can't be built (the reason is above)");
        Ok(lifeline)
    }

    fn cut(&mut self) {
        drop(self.held.take());
        drop(self.builder.wait());
    }
}

/// The reason why this machine can't run these tests, if any.
#[must_use]
pub fn obstacle() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("network namespaces need root".to_owned());
    }
    for program in ["ip", "nft", "sysctl", "setpriv", "curl", "dig", "ping"] {
        if Command::new(program)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .and_then(|mut child| child.wait())
            .is_err()
        {
            return Some(format!("`{program}` is missing; install it with: scripts/setup network"));
        }
    }
    let probe = format!("sandgate-probe-{}", std::process::id());
    let made = output(Command::new("ip").args(["netns", "add", &probe]));
    let removed = output(Command::new("ip").args(["netns", "del", &probe]));
    made.and(removed).err().map(|error| format!("no network namespace can be made: {error:#}"))
}
