//! The xDS server of `sandgate serve`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use sandgate_xds::keys::NodeKeys;
use sandgate_xds::nodes::Nodes;
use sandgate_xds::server::{Limits, Port, Shared};
use sandgate_xds::state;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The settings of the xDS server.
#[derive(Clone, Debug)]
pub struct XdsSettings {
    pub listen: SocketAddr,
    /// The desired state.
    pub state: PathBuf,
    /// Contains the keys of the nodes' tokens.
    pub key_file: PathBuf,
    /// The server's certificate, and the issuers of the nodes' certificates.
    pub tls: Option<PathBuf>,
    /// The most connections of edges at once.
    pub connections: usize,
}

impl XdsSettings {
    /// The default of [`Self::connections`].
    pub const CONNECTIONS: usize = Limits::DEFAULT.connections;
}

/// The running xDS server.
pub(super) struct Xds {
    pub(super) address: SocketAddr,
    pub(super) nodes: Nodes,
}

/// Starts the server. Its tasks are added to `listeners`, and those that it does not wait for to `tasks`.
pub(super) async fn start(
    settings: XdsSettings,
    stopped: watch::Receiver<bool>,
    listeners: &mut JoinSet<()>,
    tasks: &mut JoinSet<()>,
) -> anyhow::Result<Xds> {
    let keys = NodeKeys::from_file(&settings.key_file)?;
    let built = state::load(&settings.state)
        .with_context(|| format!("the desired state `{}`", settings.state.display()))?;
    for warning in &built.warnings {
        tracing::error!(warning, "a part of the desired state is left out");
    }
    let port = Port::bind(settings.listen, settings.tls).await.context("--xds-listen")?;
    let address = port.address()?;
    let (snapshots, desired) = watch::channel(Arc::new(built.snapshots));
    let credentials = Arc::new(keys.clone());
    let needs_certificate = port.needs_certificate();
    let limits = Limits::of_connections(settings.connections);
    let shared = Shared::new(credentials, needs_certificate, desired, stopped.clone(), limits);
    let nodes = shared.nodes().clone();
    tasks.spawn(keys.follow(settings.key_file));
    tasks.spawn(state::follow(settings.state, snapshots));
    listeners.spawn(port.serve(Arc::new(shared), stopped));
    Ok(Xds { address, nodes })
}
