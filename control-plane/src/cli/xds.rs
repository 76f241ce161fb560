//! `sandgate xds`: the desired state, and the nodes that have it.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use reqwest::Client;
use sandgate_xds::nodes::NodeReport;
use sandgate_xds::{state, token_file};
use serde::Deserialize;
use serde_json::json;

use super::https;
use super::output::Output;

/// `sandgate xds`.
#[derive(Subcommand)]
pub(super) enum Xds {
    /// Check a desired state, and print its resources with their versions
    Check {
        /// The desired state
        #[arg(value_name = "FILE")]
        state: PathBuf,
    },
    /// List the nodes that are connected or were in the last hour
    Nodes(NodesArgs),
}

/// The options of `sandgate xds nodes`.
#[derive(Args)]
pub(super) struct NodesArgs {
    /// URL of the gateway API
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8901")]
    gateway_url: String,
    /// File with the gateway tokens
    #[arg(long, value_name = "FILE")]
    gateway_token_file: PathBuf,
    /// File with the issuers of the gateway API's certificate; default: the system's
    #[arg(long, value_name = "FILE")]
    gateway_ca: Option<PathBuf>,
    /// Directory with `tls.crt` and `tls.key`, for a gateway API that demands certificates
    #[arg(long, value_name = "DIR")]
    gateway_certificate: Option<PathBuf>,
    /// Print JSON, with the versions of all resources
    #[arg(long)]
    json: bool,
}

#[derive(Deserialize)]
struct Response {
    nodes: Vec<NodeReport>,
}

impl Xds {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Check { state } => {
                let built =
                    state::load(&state).with_context(|| format!("`{}`", state.display()))?;
                anyhow::ensure!(built.warnings.is_empty(), "{}", built.warnings.join("; "));
                let groups = built.snapshots.groups();
                let groups =
                    groups.map(|(name, it)| format!("\ngroup {name}\n{}", state::summary(it)));
                let common = state::summary(built.snapshots.common());
                Output::plain(&format!("{common}{}", groups.collect::<String>()))
            }
            Self::Nodes(args) => args.run(),
        }
    }
}

impl NodesArgs {
    fn run(&self) -> anyhow::Result<()> {
        let url = https::url("--gateway-url", &self.gateway_url)?;
        let token = token_file::read(&self.gateway_token_file)?.first;
        let (ca, certificate) = (self.gateway_ca.as_deref(), self.gateway_certificate.as_deref());
        let client = https::client(ca, certificate, https::TIMEOUT)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let nodes = runtime.block_on(fetch(&client, url.as_str(), &token))?;
        let lists = if self.json {
            nodes.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?
        } else {
            nodes.iter().map(line).collect()
        };
        Output::new(self.json).many("nodes", &lists)
    }
}

fn line(node: &NodeReport) -> serde_json::Value {
    let resources: usize = node.versions.values().map(std::collections::BTreeMap::len).sum();
    let rejected = node.rejected.iter().flat_map(|(kind, all)| {
        all.iter().map(move |(name, reason)| format!("{kind} {name}: {reason}"))
    });
    json!({
        "node": node.node,
        "connected": node.connected,
        "resources": resources,
        "pending": node.pending,
        "rejected": rejected.collect::<Vec<_>>().join("; "),
    })
}

async fn fetch(client: &Client, url: &str, token: &str) -> anyhow::Result<Vec<NodeReport>> {
    let url = format!("{}/gateway/v1/xds/nodes", url.trim_end_matches('/'));
    let response = client.get(&url).bearer_auth(token).send().await?;
    let status = response.status();
    let body = response.bytes().await?;
    anyhow::ensure!(
        status.is_success(),
        "`{url}` answered {status}: {}",
        String::from_utf8_lossy(&body)
    );
    Ok(serde_json::from_slice::<Response>(&body)?.nodes)
}
