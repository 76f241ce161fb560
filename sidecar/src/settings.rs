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
    /// What the command line says of guardrails. The file's are added.
    pub operator: Operator,
    /// A file with the operator's settings, followed like a policy's.
    pub operator_file: Option<PathBuf>,
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
    /// The most bytes that the kernel holds for one TCP connection in one direction, in gateway mode.
    pub tcp_buffer: u32,
    /// What one sandbox may take of Envoy.
    pub bounds: Bounds,
    /// A folder for Envoy's files, made if it is missing.
    pub run_dir: PathBuf,
    /// A file that is there while the policy is enforced and the sandbox has its way out.
    pub ready_file: Option<PathBuf>,
    /// A file that says how the agent is, as JSON.
    pub status_file: Option<PathBuf>,
    /// The sandbox's id, which its metrics have as a label.
    pub sandbox: Option<String>,
    /// A file that has what it counts, for Prometheus.
    pub metrics_file: Option<PathBuf>,
}

/// What one sandbox may take of Envoy. Beyond it, new connections are closed at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Bounds {
    /// Connections at the same time.
    pub connections: u32,
    /// Envoy's heap, in bytes: what it has allocated, without its program and the filter's own memory.
    pub heap: u64,
    /// What is held of data that the other side of a connection has not taken yet, in bytes, for each
    /// direction.
    pub buffer: u32,
}

impl Default for Bounds {
    /// Twice the 10,000 connections that a sandbox is promised: one that was ended by its client is still
    /// there while its last bytes are under way. They cost some 20 KiB each, so the heap has room for
    /// them, and for buffers besides.
    fn default() -> Self {
        Self { connections: 20_000, heap: 1 << 30, buffer: 128 << 10 }
    }
}

impl Bounds {
    /// How many files Envoy opens: for a connection two, for one that is being denied three; and its own.
    #[must_use]
    pub fn files(&self) -> u64 {
        u64::from(self.connections) * 3 + 1_024
    }

    /// The same, with no more connections than so many files are enough for. Out of files, Envoy would let those that
    /// are too many wait without a word, and turn round without end meanwhile.
    #[must_use]
    pub fn within(self, files: u64) -> Self {
        /// What it has open besides connections, and for those that are being denied.
        const BESIDES: u64 = 200;
        let room = u32::try_from(files.saturating_sub(BESIDES) / 2).unwrap_or(u32::MAX);
        Self { connections: self.connections.min(room).max(1), ..self }
    }
}

/// Where the policy comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A file of JSON.
    File(PathBuf),
    /// The control plane's long poll.
    ControlPlane(ControlPlane),
}
