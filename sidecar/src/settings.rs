//! The agent's settings.

use std::net::SocketAddr;
use std::path::PathBuf;

use sandgate_policy::egress::OperatorSettings;

use crate::envoy::{Filter, Program};
use crate::nftables::Layout;
use crate::source::PolicySource;

/// All settings, validated.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) layout: Layout,
    /// The guardrails of the command line. The agent adds them to those of the file.
    pub(crate) command_line_guardrails: OperatorSettings,
    /// The path of the operator's settings, which the agent follows like a policy file.
    pub(crate) operator_file: Option<PathBuf>,
    pub(crate) source: PolicySource,
    /// The DNS proxy's resolvers, in the order of preference.
    pub(crate) resolvers: Vec<SocketAddr>,
    pub(crate) envoy: Program,
    pub(crate) filter: Filter,
    /// The path of a bootstrap template that replaces the built-in one.
    pub(crate) envoy_config: Option<PathBuf>,
    /// The maximum size of the kernel's buffer for one TCP connection in one direction, in bytes, in gateway mode.
    pub(crate) tcp_buffer: u32,
    pub(crate) bounds: Bounds,
    /// The folder for Envoy's files, which the agent creates.
    pub(crate) run_dir: PathBuf,
    pub(crate) ready_file: Option<PathBuf>,
    pub(crate) status_file: Option<PathBuf>,
    pub(crate) metrics_file: Option<PathBuf>,
    /// The sandbox's id, which the metrics have as a label.
    pub(crate) sandbox_id: Option<String>,
}

/// The limits of a sandbox's use of Envoy. Beyond them, Envoy closes new connections immediately.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Bounds {
    /// The maximum number of simultaneous connections.
    pub(crate) connections: u32,
    /// The maximum size of Envoy's heap, in bytes, without its program and the filter's memory.
    pub(crate) heap: u64,
    /// The maximum size of a connection's buffer in each direction, in bytes, for data that the peer has not read.
    pub(crate) connection_buffer: u32,
}

impl Default for Bounds {
    /// Twice the 10,000 connections that a sandbox is promised, because a connection that its client has closed still
    /// exists until its last bytes are sent. A connection needs about 20 KiB, so the heap has room for all of them and
    /// for buffers.
    fn default() -> Self {
        Self { connections: 20_000, heap: 1 << 30, connection_buffer: 128 << 10 }
    }
}

impl Bounds {
    /// The number of files that Envoy opens: two for each connection, three for a connection that it denies, and its
    /// own.
    pub(crate) fn files(&self) -> u64 {
        u64::from(self.connections) * 3 + 1_024
    }

    /// Reduces the number of connections so that `files` open files are sufficient. Without this, an Envoy that runs
    /// out of files would leave new connections waiting without a response, and would retry `accept` in a busy loop.
    pub(crate) fn within(self, files: u64) -> Self {
        /// The files that are not connections, and the additional ones for connections that are being denied.
        const RESERVED: u64 = 200;
        let room = u32::try_from(files.saturating_sub(RESERVED) / 2).unwrap_or(u32::MAX);
        Self { connections: self.connections.min(room).max(1), ..self }
    }
}
