//! The options, and their conversion to [`Settings`].

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Parser, ValueEnum};
use ipnet::IpNet;
use sandgate_envoy_config::Filters;
use sandgate_policy::egress::OperatorSettings;

use crate::envoy::{Filter, Program};
use crate::nftables::Layout;
use crate::nftables::layout::{Interface, Mode, Ports};
use crate::settings::{Bounds, Settings};
use crate::source::{ControlPlane, PolicySource, Tls};

/// The agent of one sandbox: enforces its network policy with a firewall, a DNS proxy and an Envoy.
#[derive(Parser)]
#[command(name = "sandgate-sidecar", version, about)]
pub(super) struct Arguments {
    /// Location of the sandbox: behind an interface of this network namespace, or in this namespace
    #[arg(long, value_enum, default_value_t = ModeKind::Gateway)]
    mode: ModeKind,
    /// Interface to the sandbox, for --mode gateway
    #[arg(long, value_name = "NAME", required_if_eq("mode", "gateway"))]
    sandbox_interface: Option<Interface>,
    #[command(flatten)]
    source: SourceArgs,
    /// File with the operator's settings (JSON): rule_order, protected, also_global. The agent follows changes and ignores
    /// invalid content
    #[arg(long, value_name = "FILE")]
    operator_file: Option<PathBuf>,
    /// Range that no policy allows: edges, the control plane, the sandboxes. Adds to the operator's settings. Can be repeated
    #[arg(long = "protected", value_name = "CIDR")]
    protected: Vec<IpNet>,
    /// Range of edges. Only they may open connections to the sandbox; no policy allows connections to them. Can be repeated
    #[arg(long = "edge", value_name = "CIDR")]
    edges: Vec<IpNet>,
    /// Resolver, as ADDRESS or ADDRESS:PORT. Defaults to the resolvers of /etc/resolv.conf. Can be repeated
    #[arg(long = "resolver", value_name = "ADDRESS", value_parser = resolver)]
    resolvers: Vec<SocketAddr>,
    /// Keep the sandbox's source address on UDP and ICMP, because the network has a route back to the sandbox
    #[arg(long)]
    no_masquerade: bool,
    /// Envoy 1.40
    #[arg(long, value_name = "PATH", default_value = "envoy")]
    envoy: PathBuf,
    /// User id that Envoy runs as. No other program may run as this user
    #[arg(long, value_name = "UID", default_value_t = 64_321, value_parser = clap::value_parser!(u32).range(1..))]
    envoy_uid: u32,
    /// Template of Envoy's bootstrap that replaces the built-in one (envoy/sidecar.yaml)
    #[arg(long, value_name = "FILE")]
    envoy_config: Option<PathBuf>,
    /// Maximum number of simultaneous connections of the sandbox. Additional ones are closed immediately
    #[arg(long, value_name = "NUMBER", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_connections: u32,
    /// Maximum size of Envoy's heap, in MiB. From 95 % of it on, new connections are closed immediately
    #[arg(long, value_name = "MIB", default_value_t = 1_024, value_parser = clap::value_parser!(u32).range(1..))]
    max_heap: u32,
    /// Maximum size of Envoy's buffer for one connection in one direction, in KiB
    #[arg(long, value_name = "KIB", default_value_t = 128, value_parser = clap::value_parser!(u32).range(4..=65_536))]
    connection_buffer: u32,
    /// Form of the egress filter: a wasm module, or a dynamic module in Envoy's process
    #[arg(long, value_name = "FORM", env = "SANDGATE_FILTERS", value_enum, default_value_t = Form::Wasm)]
    filters: Form,
    /// Egress filter. Defaults to /etc/sandgate/sandgate_egress.wasm or, with --filters native,
    /// /etc/sandgate/libsandgate_native.so
    #[arg(long, value_name = "FILE")]
    filter: Option<PathBuf>,
    /// Maximum size of the kernel's buffer for one TCP connection in one direction, for --mode gateway. A smaller buffer is
    /// slower over long distances, a larger one lets a sandbox use more memory
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20, value_parser = clap::value_parser!(u32).range(65_536..=1 << 30))]
    tcp_buffer: u32,
    /// Directory for Envoy's files. Created if it does not exist
    #[arg(long, value_name = "DIR", default_value = "/run/sandgate-sidecar")]
    run_dir: PathBuf,
    /// File that exists while the policy is enforced and outbound traffic passes
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    /// File with the agent's status (JSON): ready, generation, problem, memory
    #[arg(long, value_name = "FILE")]
    status_file: Option<PathBuf>,
    /// File with the agent's metrics in Prometheus' text format, updated every five seconds
    #[arg(long, value_name = "FILE")]
    metrics_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum ModeKind {
    Gateway,
    Shared,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Form {
    Wasm,
    Native,
}

impl Form {
    fn filter(self, path: Option<PathBuf>) -> Filter {
        let (form, default) = match self {
            Self::Wasm => (Filters::Wasm, "/etc/sandgate/sandgate_egress.wasm"),
            Self::Native => (Filters::Native, "/etc/sandgate/libsandgate_native.so"),
        };
        Filter { form, path: path.unwrap_or_else(|| default.into()) }
    }
}

#[derive(Args)]
struct SourceArgs {
    /// File with the policy (JSON). The agent follows changes and ignores invalid content
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "control_plane",
        conflicts_with = "control_plane"
    )]
    policy_file: Option<PathBuf>,
    /// URL of the control plane's gateway API, from which the agent gets the policy
    #[arg(long, value_name = "URL", requires_all = ["sandbox", "token_file"])]
    control_plane: Option<String>,
    /// Canonical id of the sandbox, for --control-plane. The metrics have it as a label
    #[arg(long, value_name = "ID")]
    sandbox: Option<String>,
    /// File with the sandbox's token (`sandgate keys sidecar`), for --control-plane. Read for each request
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// File with the issuers of the control plane's certificate, for an https:// URL; default: the system's
    #[arg(long, value_name = "FILE", requires = "control_plane")]
    control_plane_ca: Option<PathBuf>,
    /// Directory with `tls.crt` and `tls.key`, for a control plane that demands certificates; read at the start
    #[arg(long, value_name = "DIR", requires = "control_plane")]
    control_plane_certificate: Option<PathBuf>,
}

impl Arguments {
    /// Converts the options. Reads /etc/resolv.conf and searches PATH for Envoy if the options don't specify them.
    pub(super) fn settings(self) -> anyhow::Result<Settings> {
        let mut guardrails = OperatorSettings::default();
        guardrails.protected.extend(self.protected);
        guardrails.protected.extend(self.edges.iter().copied());
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
        let sandbox_id = self.source.sandbox.clone();
        Ok(Settings {
            layout: Layout {
                mode,
                edges: self.edges,
                masquerade: !self.no_masquerade,
                envoy_uid: self.envoy_uid,
                agent_uid: nix::unistd::geteuid().as_raw(),
                ports: Ports::default(),
            },
            command_line_guardrails: guardrails,
            operator_file: self.operator_file,
            source: self.source.source()?,
            resolvers,
            envoy: Program { path: program(&self.envoy)?, uid: self.envoy_uid },
            filter: self.filters.filter(self.filter),
            envoy_config: self.envoy_config,
            tcp_buffer: self.tcp_buffer,
            bounds: Bounds {
                connections: self.max_connections,
                heap: u64::from(self.max_heap) << 20,
                connection_buffer: self.connection_buffer << 10,
            },
            run_dir: std::path::absolute(&self.run_dir)
                .with_context(|| format!("--run-dir {} can't be used", self.run_dir.display()))?,
            ready_file: self.ready_file,
            status_file: self.status_file,
            sandbox_id,
            metrics_file: self.metrics_file,
        })
    }
}

impl SourceArgs {
    fn source(self) -> anyhow::Result<PolicySource> {
        if let Some(path) = self.policy_file {
            return Ok(PolicySource::File(path));
        }
        let url = self.control_plane.context("--policy-file or --control-plane is missing")?;
        let sandbox = self.sandbox.context("--control-plane needs --sandbox")?;
        let token_file = self.token_file.context("--control-plane needs --token-file")?;
        let tls =
            Tls { authorities: self.control_plane_ca, certificate: self.control_plane_certificate };
        let control_plane =
            ControlPlane::new(&url, sandbox, token_file, &tls).context("--control-plane")?;
        Ok(PolicySource::ControlPlane(control_plane))
    }
}

/// Parses `ADDRESS` or `ADDRESS:PORT`. The default port is 53.
fn resolver(text: &str) -> Result<SocketAddr, String> {
    let address = text.parse::<IpAddr>().map(|address| SocketAddr::new(address, 53));
    address
        .or_else(|_| text.parse())
        .map_err(|_| "expected an IP address, or ADDRESS:PORT".to_owned())
}

/// The resolvers of resolv.conf(5).
fn system_resolvers() -> anyhow::Result<Vec<SocketAddr>> {
    let path = "/etc/resolv.conf";
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("{path} can't be read; use --resolver"))?;
    let named = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    let resolvers: Vec<SocketAddr> = named.filter_map(|rest| resolver(rest.trim()).ok()).collect();
    anyhow::ensure!(!resolvers.is_empty(), "{path} contains no resolver; use --resolver");
    Ok(resolvers)
}

/// The path of a program, which may be a name on PATH. Envoy does not inherit PATH.
fn program(name: &std::path::Path) -> anyhow::Result<PathBuf> {
    if name.components().count() > 1 {
        return std::fs::canonicalize(name)
            .with_context(|| format!("--envoy {} can't be used", name.display()));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
        .with_context(|| {
            format!("there is no `{}` on PATH; specify Envoy with --envoy", name.display())
        })
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
