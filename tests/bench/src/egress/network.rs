//! The network namespaces of the sandbox, the gateway with Envoy, and the internet.

use std::fs::File;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use nix::sched::{CloneFlags, setns};
use sandgate_stack::{Process, artifacts};

/// The server in the internet.
pub(super) const DESTINATION: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
const RESOLVER: &str = "203.0.113.53";

/// The namespaces. They end with this value.
pub(super) struct Network {
    prefix: String,
    _script: Process,
}

impl Network {
    pub(super) async fn build(folder: &Path) -> Result<Self> {
        let prefix = format!("sgbench{}", std::process::id());
        let mut command = Command::new(artifacts::root().join("tests/stack/namespaces.sh"));
        command.args([&prefix, RESOLVER, &DESTINATION.to_string()]);
        let mut script = Process::start("namespaces.sh", &command, &folder.join("namespaces.log"))?
            .with_patience(Duration::from_secs(5));
        let built =
            async |script: &mut Process| Ok(script.output().contains("built").then_some(()));
        script.until("did not build the network", Duration::from_secs(20), built).await?;
        let this = Self { prefix, _script: script };
        for name in ["sandbox", "gateway", "internet"] {
            this.run(name, "sysctl -qw net.ipv4.tcp_tw_reuse=1 net.core.somaxconn=8192")?;
        }
        this.run("sandbox", "sysctl -qw net.ipv4.ip_local_port_range=10000\t65000")?;
        this.run("gateway", "sysctl -qw net.ipv4.ip_local_port_range=20000\t65000")?;
        // For the way without a proxy. No packet leaves the three namespaces.
        this.run("gateway", "sysctl -qw net.ipv4.ip_forward=1")?;
        this.run("gateway", "nft add table ip bench")?;
        this.run(
            "gateway",
            "nft add chain ip bench in { type nat hook prerouting priority dstnat; }",
        )?;
        // The kernel remembers each closed connection for two minutes, which are more connections than its table holds. It
        // drops the first packet of a connection for which there is no place.
        let of_closed = ["time_wait", "close"];
        for state in of_closed.map(|state| format!("nf_conntrack_tcp_timeout_{state}=1")) {
            this.run("gateway", &format!("sysctl -qw net.netfilter.{state}"))?;
        }
        Ok(this)
    }

    /// Fails if the gateway's kernel dropped packets because it could not track their connection. A connection is then slow or
    /// fails, and neither is due to Envoy.
    pub(super) fn require_no_drops(&self) -> Result<()> {
        let dropped = dropped(&self.run("gateway", "cat /proc/net/stat/nf_conntrack")?)?;
        ensure!(
            dropped == 0,
            "the kernel dropped {dropped} packets in the gateway, because its table of connections was full (`nf_conntrack_max`)"
        );
        Ok(())
    }

    /// The words before a program that run it in a namespace.
    pub(super) fn inside(&self, name: &str) -> Vec<String> {
        ["ip", "netns", "exec", &self.name(name)].map(str::to_owned).into()
    }

    fn name(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// Runs a command in a namespace; returns its output.
    fn run(&self, name: &str, words: &str) -> Result<String> {
        let output = Command::new("ip")
            .args(["netns", "exec", &self.name(name)])
            .args(words.split(' '))
            .output()?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`{words}` failed: {}", error.trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Whether something listens on a port of the gateway.
    pub(super) fn listens(&self, port: u16) -> Result<bool> {
        Ok(!self.run("gateway", &format!("ss -Hltn sport = :{port}"))?.trim().is_empty())
    }

    /// Sends connections of the sandbox to Envoy's port.
    pub(super) fn redirect(&self, ports: &[u16], to: u16) -> Result<()> {
        for port in ports {
            let rule = format!("iifname sandbox0 tcp dport {port} redirect to :{to}");
            self.run("gateway", &format!("nft add rule ip bench in {rule}"))?;
        }
        Ok(())
    }

    /// Runs a client in the sandbox, on a thread of its own, because a namespace belongs to a thread.
    pub(super) fn in_sandbox<T: Send>(
        &self,
        client: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let path = format!("/run/netns/{}", self.name("sandbox"));
        let namespace = File::open(&path).with_context(|| format!("`{path}` can't be opened"))?;
        std::thread::scope(|scope| {
            let client = scope.spawn(move || {
                setns(namespace, CloneFlags::CLONE_NEWNET)?;
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(client)
            });
            client.join().map_err(|_| anyhow!("a client panicked"))?
        })
    }
}

/// The dropped packets in the statistics of the connection tracking: the names of the columns, and one line of hexadecimal
/// numbers for each processor.
fn dropped(statistics: &str) -> Result<u64> {
    let mut lines = statistics.lines();
    let names = lines.next().unwrap_or_default();
    let column = names.split_whitespace().position(|name| name == "drop");
    let column = column.context("the kernel does not count the packets that it drops")?;
    let values = lines.filter_map(|line| line.split_whitespace().nth(column));
    values.map(|value| Ok(u64::from_str_radix(value, 16)?)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_packets_are_the_sum_of_all_processors() {
        let statistics = "entries  searched drop early_drop\n0003ffff  00000000 0000000a 00000001\n0003ffff  00000000 00000010 00000000\n";
        assert_eq!(dropped(statistics).unwrap(), 26);
        assert!(dropped("entries\n00000001\n").is_err());
    }
}
