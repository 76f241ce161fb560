//! The options of the xDS server.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::count;
use crate::serve::XdsSettings;

#[derive(Args)]
pub(super) struct XdsArgs {
    /// Address of the xDS server, from which edges get their configuration; without it, there is none
    #[arg(long, value_name = "ADDRESS", requires_all = ["xds_state", "xds_key_file"])]
    xds_listen: Option<SocketAddr>,
    /// File with the desired state of the edges; read again when it changes
    #[arg(long, value_name = "FILE", requires = "xds_listen")]
    xds_state: Option<PathBuf>,
    /// File with one or two keys, from which the tokens of nodes are derived; read again when it changes
    #[arg(long, value_name = "FILE", requires = "xds_listen")]
    xds_key_file: Option<PathBuf>,
    /// Directory with `tls.crt`, `tls.key` and `ca.crt`, the issuers of the nodes' certificates; required except on loopback
    #[arg(long, value_name = "DIR", requires = "xds_listen")]
    xds_tls_dir: Option<PathBuf>,
    /// Maximum number of connections of edges to the xDS server
    #[arg(long, value_name = "COUNT", default_value_t = XdsSettings::CONNECTIONS, value_parser = count)]
    xds_connections: usize,
}

impl XdsArgs {
    pub(super) fn settings(self) -> Option<XdsSettings> {
        Some(XdsSettings {
            listen: self.xds_listen?,
            state: self.xds_state?,
            key_file: self.xds_key_file?,
            tls: self.xds_tls_dir,
            connections: self.xds_connections,
        })
    }
}
