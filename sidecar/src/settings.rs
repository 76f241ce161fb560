//! What an agent is told at its start.

use std::net::SocketAddr;
use std::path::PathBuf;

use sandgate_policy::egress::Operator;

use crate::envoy::Program;
use crate::nftables::Layout;
use crate::source::ControlPlane;

/// Everything an agent needs to know, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Interfaces, ports, users.
    pub layout: Layout,
    /// Guardrails and the order of rules.
    pub operator: Operator,
    /// Where the policy comes from.
    pub source: Source,
    /// The resolvers that the DNS proxy asks, first choice first.
    pub resolvers: Vec<SocketAddr>,
    /// Envoy, and its user.
    pub envoy: Program,
    /// `sandgate_egress.wasm`.
    pub filter: PathBuf,
    /// A bootstrap template instead of the built-in one.
    pub envoy_config: Option<PathBuf>,
    /// A folder for Envoy's files, made if it is missing.
    pub run_dir: PathBuf,
    /// A file that is there while the policy is enforced and the sandbox has its way out.
    pub ready_file: Option<PathBuf>,
    /// A file that says how the agent is, as JSON.
    pub status_file: Option<PathBuf>,
    /// A file that has what it counts, for Prometheus.
    pub metrics_file: Option<PathBuf>,
}

/// Where the policy comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A file of JSON.
    File(PathBuf),
    /// The control plane's long poll.
    ControlPlane(ControlPlane),
}
