//! The server process: the xDS server of the control plane, and a source of resources that changes a setting of one node at a
//! time.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use sandgate_stack::files::write_private;
use sandgate_stack::pki;
use sandgate_xds::keys::NodeKeys;
use sandgate_xds::server::{Limits, Port, Shared, Source};
use sandgate_xds::{Kind, Snapshot, Snapshots, Version, state};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::watch;

use super::{name, number};

/// The resource that is a setting of one node here: the rate of its access log.
pub(super) const SETTING: (Kind, &str) = (Kind::TokenBucket, "access_log");

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ServerOptions {
    #[arg(long)]
    folder: PathBuf,
    #[arg(long)]
    nodes: u32,
    #[arg(long, default_value_t = 0)]
    port: u16,
}

/// The resources of each node. Clones share them.
#[derive(Clone)]
struct PerNode(Arc<Vec<watch::Sender<Arc<Snapshots>>>>);

impl Source for PerNode {
    fn subscribe(&self, node: &str) -> watch::Receiver<Arc<Snapshots>> {
        let found = number(node).ok().and_then(|number| self.0.get(number));
        // The keys of the benchmark have no other nodes.
        found.map_or_else(
            || watch::Sender::new(Arc::default()).subscribe(),
            watch::Sender::subscribe,
        )
    }
}

/// Serves until the standard input ends. Each line `COUNT RATE` there makes so many changes.
pub(crate) async fn serve(options: &ServerOptions) -> Result<()> {
    let common = Arc::new(snapshot(&options.folder)?);
    let keys = NodeKeys::from_file(&options.folder.join("key"))?;
    let first = Arc::new(Snapshots::from(Snapshot::clone(&common)));
    let senders = (0..options.nodes).map(|_| watch::Sender::new(Arc::clone(&first)));
    let nodes = PerNode(Arc::new(senders.collect()));
    let (_stopping, stopped) = watch::channel(false);
    let port = Port::bind((Ipv4Addr::LOCALHOST, options.port).into(), None).await?;
    let address = port.address()?;
    let limits = Limits::of_connections(usize::try_from(options.nodes)? + 1_000);
    let credentials = Arc::new(keys);
    let shared = Shared::new(credentials, false, nodes.clone(), stopped.clone(), limits);
    tokio::spawn(port.serve(Arc::new(shared), stopped));
    println!("ready {}", address.port());
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let (count, rate) = line.split_once(' ').context("not `COUNT RATE`")?;
        change(&nodes, &common, count.parse()?, rate.parse()?).await?;
        println!("changed");
    }
    Ok(())
}

/// Changes the setting of one node after the other, at a constant rate. The version of the resource is the time.
async fn change(nodes: &PerNode, common: &Arc<Snapshot>, count: u32, rate: u32) -> Result<()> {
    let mut tick = tokio::time::interval(Duration::from_secs(1) / rate);
    for number in 0..count {
        tick.tick().await;
        let (kind, name) = SETTING;
        let mut next = Snapshot::clone(common);
        let mut resource = common.resource(kind, name).context("no such resource")?.clone();
        resource.version = Version(now()?.to_string().into());
        next.insert(kind, name, resource);
        // Not one after the other, so that no part of the server has an advantage.
        let place = usize::try_from(u64::from(number) * 7_919)? % nodes.0.len();
        nodes.0.get(place).context("no such node")?.send_replace(Arc::new(next.into()));
    }
    Ok(())
}

/// Nanoseconds since 1970. Both processes read the same clock.
pub(super) fn now() -> Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos().try_into()?)
}

fn snapshot(folder: &std::path::Path) -> Result<Snapshot> {
    let text = std::fs::read_to_string(folder.join("state.yaml"))?;
    Ok(state::build(&state::parse(&text)?.common)?.snapshot)
}

/// What the server reads.
pub(super) struct Files {
    folder: TempDir,
    keys: NodeKeys,
}

impl Files {
    pub(super) fn write() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("sandgate-bench-").tempdir()?;
        let path = |name: &str| folder.path().join(name);
        write_private(&path("token"), "a-gateway-token-for-one-benchmark\n")?;
        write_private(&path("key"), "a-key-of-nodes-for-one-benchmark-0123456789\n")?;
        std::fs::create_dir(path("certificate"))?;
        pki::issue(&path("certificate"))?;
        let state = format!(
            "version: 1\nedge:\n  domain: sandbox.example.com\n  sandbox_network: 10.64.0.0/16\n  \
             control_plane_address: control-plane.internal\n  gateway_token_file: {}\n  certificate: {}\n",
            path("token").display(),
            path("certificate").display(),
        );
        write_private(&path("state.yaml"), &state)?;
        let keys = NodeKeys::from_file(&path("key"))?;
        Ok(Self { folder, keys })
    }

    pub(super) fn token(&self, number: u32) -> Result<String> {
        Ok(self.keys.token(&name(number))?)
    }

    /// The resources of each node before any change.
    pub(super) fn snapshot(&self) -> Result<Snapshot> {
        snapshot(self.folder.path())
    }
}

/// The running server process. It ends with this value.
pub(super) struct Running {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    port: u16,
}

impl Running {
    pub(super) async fn start(files: &Files, nodes: u32, port: Option<u16>) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("xds-server")
            .arg("--folder")
            .arg(files.folder.path())
            .args(["--nodes", &nodes.to_string(), "--port", &port.unwrap_or(0).to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let input = child.stdin.take().context("no input")?;
        let mut output = BufReader::new(child.stdout.take().context("no output")?).lines();
        let ready = output.next_line().await?.context("the xDS server ended")?;
        let port = ready.strip_prefix("ready ").context("the xDS server is not ready")?.parse()?;
        Ok(Self { child, input, output, port })
    }

    pub(super) const fn address(&self) -> SocketAddr {
        SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), self.port)
    }

    pub(super) fn process(&self) -> Result<u32> {
        self.child.id().context("the xDS server has ended")
    }

    /// Makes changes; returns when the last one is made.
    pub(super) async fn change(&mut self, count: u32, rate: u32) -> Result<()> {
        self.input.write_all(format!("{count} {rate}\n").as_bytes()).await?;
        let done = self.output.next_line().await?;
        anyhow::ensure!(done.as_deref() == Some("changed"), "the xDS server ended");
        Ok(())
    }

    pub(super) async fn kill(mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }
}
