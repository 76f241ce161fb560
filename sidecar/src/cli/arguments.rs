//! The options, and their conversion to [`Settings`].

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Parser, ValueEnum};
use ipnet::IpNet;
use sandgate_policy::egress::Operator;

use crate::envoy::Program;
use crate::nftables::Layout;
use crate::nftables::layout::{Interface, Mode, Ports};
use crate::settings::{Bounds, Settings, Source};
use crate::source::ControlPlane;

/// The agent of one sandbox: enforces its network policy with a firewall, a DNS proxy and an Envoy.
#[derive(Parser)]
#[command(name = "sandgate-sidecar", version, about)]
pub(super) struct Arguments {
    /// Where the sandbox is: behind an interface of this network namespace, or in it
    #[arg(long, value_enum, default_value_t = ModeKind::Gateway)]
    mode: ModeKind,
    /// Interface that leads to the sandbox, for --mode gateway
    #[arg(long, value_name = "NAME", required_if_eq("mode", "gateway"))]
    sandbox_interface: Option<Interface>,
    #[command(flatten)]
    source: SourceArgs,
    /// File with the operator's settings (JSON): rule_order, protected, also_global; read again when
    /// it changes, and a bad one changes nothing
    #[arg(long, value_name = "FILE")]
    operator_file: Option<PathBuf>,
    /// Range that no sandbox reaches, whatever its policy says: edges, the control plane, the
    /// sandboxes. Adds to the operator's settings. Can be repeated
    #[arg(long = "protected", value_name = "CIDR")]
    protected: Vec<IpNet>,
    /// Range from which connections to the sandbox are let in, and which is protected; nothing
    /// else comes in. Can be repeated
    #[arg(long = "edge", value_name = "CIDR")]
    edges: Vec<IpNet>,
    /// Resolver that names are looked up at, as ADDRESS or ADDRESS:PORT; those of /etc/resolv.conf
    /// if left out. Can be repeated
    #[arg(long = "resolver", value_name = "ADDRESS", value_parser = resolver)]
    resolvers: Vec<SocketAddr>,
    /// Leave the sandbox's own source address on UDP and ICMP: the network knows the way back to it
    #[arg(long)]
    no_masquerade: bool,
    /// Program that is Envoy 1.40
    #[arg(long, value_name = "PATH", default_value = "envoy")]
    envoy: PathBuf,
    /// Number of the user that Envoy runs as; nothing else may run as it
    #[arg(long, value_name = "UID", default_value_t = 64_321, value_parser = clap::value_parser!(u32).range(1..))]
    envoy_uid: u32,
    /// Template of Envoy's bootstrap, instead of the built-in one (envoy/sidecar.yaml)
    #[arg(long, value_name = "FILE")]
    envoy_config: Option<PathBuf>,
    /// How many connections the sandbox may have at the same time; one more is closed at once
    #[arg(long, value_name = "NUMBER", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_connections: u32,
    /// How large Envoy's heap may become, in MiB; when it nearly is, new connections are closed at once
    #[arg(long, value_name = "MIB", default_value_t = 1_024, value_parser = clap::value_parser!(u32).range(1..))]
    max_heap: u32,
    /// How much Envoy holds of what the other side of a connection has not taken yet, in KiB
    #[arg(long, value_name = "KIB", default_value_t = 128, value_parser = clap::value_parser!(u32).range(4..=65_536))]
    connection_buffer: u32,
    /// The egress filter, sandgate_egress.wasm
    #[arg(long, value_name = "FILE")]
    filter: PathBuf,
    /// The most bytes that the gateway's kernel holds for one TCP connection in one direction, for
    /// --mode gateway: less is slower over long ways, more is more memory for a sandbox to take
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20, value_parser = clap::value_parser!(u32).range(65_536..=1 << 30))]
    tcp_buffer: u32,
    /// Directory for Envoy's files; made if it is missing
    #[arg(long, value_name = "DIR", default_value = "/run/sandgate-sidecar")]
    run_dir: PathBuf,
    /// File that is there while the policy is enforced and the sandbox has its way out
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    /// File that says how the agent is: ready, generation, problem, memory (JSON)
    #[arg(long, value_name = "FILE")]
    status_file: Option<PathBuf>,
    /// File with what the agent counts, in Prometheus' text format, written again every five seconds
    #[arg(long, value_name = "FILE")]
    metrics_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum ModeKind {
    Gateway,
    Shared,
}

#[derive(Args)]
struct SourceArgs {
    /// File with the policy (JSON); read again when it changes, and a bad one changes nothing
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "control_plane",
        conflicts_with = "control_plane"
    )]
    policy_file: Option<PathBuf>,
    /// URL of the control plane's gateway API, which is asked for the policy
    #[arg(long, value_name = "URL", requires_all = ["sandbox", "token_file"])]
    control_plane: Option<String>,
    /// Canonical id of the sandbox, for --control-plane; its metrics have it as a label
    #[arg(long, value_name = "ID")]
    sandbox: Option<String>,
    /// File with the token for it (`sandgate keys sidecar`), for --control-plane; read for each call
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl Arguments {
    /// Reads the resolvers of this machine and looks for Envoy where the options don't name them.
    pub(super) fn settings(self) -> anyhow::Result<Settings> {
        let mut operator = Operator::default();
        operator.protected.extend(self.protected);
        operator.protected.extend(self.edges.iter().copied());
        let mode = match self.mode {
            ModeKind::Shared => Mode::Shared,
            ModeKind::Gateway => Mode::Gateway {
                interface: self
                    .sandbox_interface
                    .context("--mode gateway needs --sandbox-interface")?,
            },
        };
        let resolvers = match self.resolvers {
            none if none.is_empty() => system_resolvers()?,
            some => some,
        };
        let sandbox = self.source.sandbox.clone();
        Ok(Settings {
            layout: Layout {
                mode,
                edges: self.edges,
                masquerade: !self.no_masquerade,
                envoy_uid: self.envoy_uid,
                agent_uid: nix::unistd::geteuid().as_raw(),
                ports: Ports::default(),
            },
            operator,
            operator_file: self.operator_file,
            source: self.source.source()?,
            resolvers,
            envoy: Program { path: program(&self.envoy)?, uid: self.envoy_uid },
            filter: self.filter,
            envoy_config: self.envoy_config,
            tcp_buffer: self.tcp_buffer,
            bounds: Bounds {
                connections: self.max_connections,
                heap: u64::from(self.max_heap) << 20,
                buffer: self.connection_buffer << 10,
            },
            run_dir: std::path::absolute(&self.run_dir)
                .with_context(|| format!("--run-dir {} can't be used", self.run_dir.display()))?,
            ready_file: self.ready_file,
            status_file: self.status_file,
            sandbox,
            metrics_file: self.metrics_file,
        })
    }
}

impl SourceArgs {
    fn source(self) -> anyhow::Result<Source> {
        if let Some(path) = self.policy_file {
            return Ok(Source::File(path));
        }
        let url = self.control_plane.context("--policy-file or --control-plane is missing")?;
        let sandbox = self.sandbox.context("--control-plane needs --sandbox")?;
        let token_file = self.token_file.context("--control-plane needs --token-file")?;
        let asked = ControlPlane::new(&url, sandbox, token_file).context("--control-plane")?;
        Ok(Source::ControlPlane(asked))
    }
}

/// Port 53, unless it says another.
fn resolver(text: &str) -> Result<SocketAddr, String> {
    let address = text.parse::<IpAddr>().map(|address| SocketAddr::new(address, 53));
    address
        .or_else(|_| text.parse())
        .map_err(|_| "expected an IP address, or ADDRESS:PORT".to_owned())
}

/// What resolv.conf(5) says.
fn system_resolvers() -> anyhow::Result<Vec<SocketAddr>> {
    let path = "/etc/resolv.conf";
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("{path} can't be read; use --resolver"))?;
    let named = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    let resolvers: Vec<SocketAddr> = named.filter_map(|rest| resolver(rest.trim()).ok()).collect();
    anyhow::ensure!(!resolvers.is_empty(), "{path} names no resolver; use --resolver");
    Ok(resolvers)
}

/// Where a program is: Envoy gets no PATH of ours.
fn program(name: &std::path::Path) -> anyhow::Result<PathBuf> {
    if name.components().count() > 1 {
        return std::fs::canonicalize(name)
            .with_context(|| format!("--envoy {} can't be used", name.display()));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
        .with_context(|| format!("there is no `{}` on PATH; name it with --envoy", name.display()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::Arguments;

    #[test]
    fn every_option_is_documented() {
        let page = include_str!("../../../docs/sidecar.md");
        let is_part_of_a_name = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
        let words: Vec<_> = page.split(|c| !is_part_of_a_name(c)).collect();
        let command = Arguments::command();
        let options: Vec<_> = command.get_arguments().filter_map(clap::Arg::get_long).collect();
        assert!(options.contains(&"operator-file"), "{options:?}");
        for option in options {
            assert!(words.contains(&format!("--{option}").as_str()), "`--{option}` is missing");
        }
    }
}
