//! The programs of the measurement: PostgreSQL, two control planes, the Envoys, and the sandboxes' server.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use http::{Method, StatusCode};
use sandgate_stack::control_plane::DOMAIN;
use sandgate_stack::postgres::Cluster;
use sandgate_stack::{
    Connection, ControlPlane, ControlPlaneSetup, Envoy, Owner, Process, Protocol, Runtime,
    artifacts,
};
use serde_json::json;
use tempfile::TempDir;

use super::edges;
use crate::serve::{self, Role};

/// The control planes listen on the same ports of these addresses.
pub(super) const SERVERS: [Ipv4Addr; 2] =
    [Ipv4Addr::new(127, 0, 0, 1), Ipv4Addr::new(127, 0, 0, 2)];
pub(super) const TOKEN: &str = "a-gateway-token-for-one-benchmark";
/// The network of the sandboxes.
pub(super) const NETWORK: (Ipv4Addr, u8) = (Ipv4Addr::new(127, 77, 0, 0), 16);

/// The sandbox whose port is changed, and the one that the load goes to.
const SANDBOXES: [(&str, Ipv4Addr); 2] =
    [("subject", Ipv4Addr::new(127, 77, 0, 1)), ("load", Ipv4Addr::new(127, 77, 0, 2))];

/// The running programs. They end with this value, in the order of the fields.
pub(super) struct Fleet {
    pub(super) edges: Vec<SocketAddr>,
    _envoys: Vec<Envoy>,
    pub(super) servers: Vec<ControlPlane>,
    owner: Owner,
    port: u16,
    pub(super) database: String,
    pub(super) envoy: String,
    pub(super) form: &'static str,
    _upstream: Process,
    _database: Cluster,
    _folder: TempDir,
}

impl Fleet {
    pub(super) async fn start(envoys: usize) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("sandgate-bench-").tempdir()?;
        let port = crate::world::free_port()?;
        let upstreams = SANDBOXES.map(|(_, address)| SocketAddr::from((address, port)));
        let log = folder.path().join("upstream.log");
        let upstream = serve::start(&[], Role::Upstream, &upstreams, None, &log).await?;
        // As an operator runs it: a commit waits for the disk.
        let cluster = Cluster::with_settings("fsync = on")?;
        let database = cluster.url(&cluster.new_database()?);
        let mut servers: Vec<ControlPlane> = Vec::new();
        for (number, address) in SERVERS.into_iter().enumerate() {
            let folder = folder.path().join(format!("server-{number}"));
            std::fs::create_dir(&folder)?;
            let port = |known: Option<SocketAddr>| known.map_or(0, |address| address.port());
            let first = servers.first();
            let (api, gateway) = (
                port(first.map(|server| server.api().address())),
                port(first.map(|server| server.gateway().address())),
            );
            let setup = setup(folder, (address, api).into(), (address, gateway).into(), &database);
            servers.push(ControlPlane::start(setup).await?);
        }
        let server = servers.first().context("no server")?;
        let owner = server.new_owner("bench")?;
        for (name, address) in SANDBOXES {
            cluster.run_sql(&database, &insert(name, address, &owner.project, port))?;
        }
        let (edges, started) = edges::start(envoys, server, folder.path()).await?;
        Ok(Self {
            edges,
            _envoys: started,
            servers,
            owner,
            port,
            database,
            envoy: artifacts::envoy_program()?.display().to_string(),
            form: artifacts::filters()?.name(),
            _upstream: upstream,
            _database: cluster,
            _folder: folder,
        })
    }

    /// Makes the port of the subject public or not, by a call to one control plane.
    pub(super) async fn expose(&self, server: usize, public: bool) -> Result<()> {
        let server = self.servers.get(server).context("no such server")?;
        let ports: &[u16] = if public { &[self.port] } else { &[] };
        let change = json!({ "exposed_ports": ports, "allow_unauthenticated_access": public });
        let path = "/sandboxes/subject";
        let call = self.owner.call(server.api(), Method::PATCH, path).json(&change);
        let answer = call.send().await?;
        ensure!(answer.status == StatusCode::OK, "{} {}", answer.status, answer.text());
        Ok(())
    }

    /// The authority of the sandbox that is changed.
    pub(super) fn subject(&self) -> String {
        format!("{}-subject.{DOMAIN}", self.port)
    }

    /// The authority of the sandbox that the load goes to.
    pub(super) fn load(&self) -> String {
        format!("{}-load.{DOMAIN}", self.port)
    }

    /// A connection to the gateway API of a control plane.
    pub(super) async fn gateway(&self, server: usize) -> Result<Connection> {
        let server = self.servers.get(server).context("no such server")?;
        server.gateway().connect(Protocol::Http1).await
    }
}

fn setup(
    folder: std::path::PathBuf,
    api: SocketAddr,
    gateway: SocketAddr,
    database: &str,
) -> ControlPlaneSetup {
    ControlPlaneSetup {
        folder,
        api,
        gateway,
        gateway_tokens: vec![TOKEN.to_owned()],
        domain: DOMAIN.to_owned(),
        proxy_url: "http://localhost:9443".to_owned(),
        drain_seconds: 0,
        enforces_egress: false,
        confirms_public_ports: false,
        runtime: Runtime::Webhook {
            // Nobody calls it: the sandboxes run already.
            url: "http://127.0.0.1:9/".to_owned(),
            secret: "a-webhook-secret-for-one-benchmark".to_owned(),
            cidr: format!("{}/{}", NETWORK.0, NETWORK.1),
        },
        patience: Duration::from_secs(1),
        desired_state: None,
        tls: None,
        database: Some(database.to_owned()),
    }
}

/// A statement that stores a running sandbox with a public port.
fn insert(name: &str, address: Ipv4Addr, project: &str, port: u16) -> String {
    format!(
        "INSERT INTO sandboxes (id, name, project_id, state, address, generation, placement, exposed_ports, public, \
         auto_resume, spec, network, created_at) VALUES ('bench{name:0>16}', '{name}', '{project}', 'running', '{address}', \
         1, 1, '[{port}]', 1, 1, '{{}}', \
         '{{\"allow_internet_access\":true,\"allow_out\":[],\"deny_out\":[]}}', 1700000000000)"
    )
}
