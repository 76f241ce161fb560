//! `sandgate bootstrap`: prints the bootstrap of an Envoy that gets everything else by xDS.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use sandgate_xds::bootstrap::{BootstrapSettings, Servers, TlsFiles, bootstrap};
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
    /// Name or address of the xDS server, as the edge reaches it; or several, separated by commas, in the order of preference
    #[arg(long, value_name = "HOST[,HOST]")]
    xds_host: String,
    /// Port of the xDS server
    #[arg(long, value_name = "PORT")]
    xds_port: u16,
    /// Name that the server's certificate has; default: its host. Required for several servers with TLS, all of which have it
    #[arg(long, value_name = "NAME", requires = "tls_ca")]
    xds_name: Option<String>,
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
        let servers = Servers::new(&edge.xds_host, edge.xds_port)
            .with_context(|| format!("--xds-host `{}`", edge.xds_host))?;
        let tls = match (edge.tls_ca, edge.tls_cert, edge.tls_key) {
            (Some(trusted_ca), Some(certificate), Some(key)) => {
                let name = edge.xds_name.or_else(|| servers.only().map(str::to_owned));
                let server_name = name.context(
                    "with several servers, set --xds-name to the name that the certificate of each of them has",
                )?;
                Some(TlsFiles { server_name, trusted_ca, certificate, key })
            }
            _ => None,
        };
        anyhow::ensure!(
            tls.is_some() || servers.are_local(),
            "`{}` is not a loopback address, and the stream carries secrets; set --tls-ca, --tls-cert and --tls-key",
            edge.xds_host
        );
        let connection = BootstrapSettings { node: edge.node, token, servers, tls };
        let bootstrap = bootstrap(&settings, &connection)?;
        Output::plain(&format!("{}\n", serde_json::to_string_pretty(&bootstrap)?))
    }
}
