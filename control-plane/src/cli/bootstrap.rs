//! `sandgate bootstrap`: prints the bootstrap of an Envoy that gets everything else by xDS.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use sandgate_xds::bootstrap::{BootstrapSettings, TlsFiles, bootstrap};
use sandgate_xds::keys::NodeKeys;
use sandgate_xds::state::parse;

use super::output::Output;

/// `sandgate bootstrap`.
#[derive(Subcommand)]
pub(super) enum Bootstrap {
    /// Print the bootstrap of an edge; it contains the edge's token, so only its Envoy may read it
    Edge(Box<Edge>),
}

/// The options of `sandgate bootstrap edge`.
#[derive(Args)]
pub(super) struct Edge {
    /// Name of the edge; each edge needs another one
    #[arg(long)]
    node: String,
    /// The desired state, which has the settings of Envoy's process
    #[arg(long, value_name = "FILE")]
    xds_state: PathBuf,
    /// File with the keys, the same as that of `sandgate serve`
    #[arg(long, value_name = "FILE")]
    xds_key_file: PathBuf,
    /// Name or address of the xDS server, as the edge reaches it
    #[arg(long, value_name = "HOST")]
    xds_host: String,
    /// Port of the xDS server
    #[arg(long, value_name = "PORT")]
    xds_port: u16,
    /// File with the issuers of the server's certificate, on the edge; required except on loopback
    #[arg(long, value_name = "FILE", requires_all = ["tls_cert", "tls_key"])]
    tls_ca: Option<PathBuf>,
    /// File with the edge's certificate, which names the node
    #[arg(long, value_name = "FILE", requires = "tls_ca")]
    tls_cert: Option<PathBuf>,
    /// File with the key of the edge's certificate
    #[arg(long, value_name = "FILE", requires = "tls_ca")]
    tls_key: Option<PathBuf>,
}

impl Bootstrap {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let Self::Edge(edge) = self;
        let path = edge.xds_state.display().to_string();
        let text = std::fs::read_to_string(&edge.xds_state)
            .with_context(|| format!("`{path}` can't be read"))?;
        let state = parse(&text).with_context(|| format!("`{path}`"))?;
        let settings = state.of(&edge.node).clone();
        let token = NodeKeys::from_file(&edge.xds_key_file)?.token(&edge.node)?;
        let tls = match (edge.tls_ca, edge.tls_cert, edge.tls_key) {
            (Some(trusted_ca), Some(certificate), Some(key)) => {
                Some(TlsFiles { trusted_ca, certificate, key })
            }
            _ => None,
        };
        let is_loopback = edge.xds_host == "localhost"
            || edge.xds_host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
        anyhow::ensure!(
            tls.is_some() || is_loopback,
            "`{}` is not a loopback address, and the stream carries secrets; set --tls-ca, --tls-cert and --tls-key",
            edge.xds_host
        );
        let connection = BootstrapSettings {
            node: edge.node,
            token,
            server: edge.xds_host,
            port: edge.xds_port,
            tls,
        };
        let bootstrap = bootstrap(&settings, &connection)?;
        Output::plain(&format!("{}\n", serde_json::to_string_pretty(&bootstrap)?))
    }
}
