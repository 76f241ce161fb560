//! Several control planes on one PostgreSQL with a synchronous standby, and an Envoy that prefers each of them.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use http::StatusCode;
use sandgate_stack::control_plane::DOMAIN;
use sandgate_stack::envoy::{Configuration, Files};
use sandgate_stack::postgres::Cluster;
use sandgate_stack::wait::until;
use sandgate_stack::{
    ControlPlane, ControlPlaneSetup, Envoy, EnvoySetup, Network, Owner, Runtime, Sandbox,
    artifacts, pki,
};
use serde_json::json;

use crate::platform::Platform;
use crate::setup::Setup;
use crate::stack::{ShowLogs, TOKEN, certificate_folder, run_with, tail};

/// The control planes listen on the same ports of these addresses.
const ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2)];

/// A fleet for one test. Its parts are stopped in the order of the fields.
pub struct Fleet {
    /// One for each control plane, which it prefers.
    pub envoys: Vec<Envoy>,
    pub servers: Vec<ControlPlane>,
    pub owner: Owner,
    platform: Platform,
    pub standby: Cluster,
    pub primary: Cluster,
    database: String,
    _folder: tempfile::TempDir,
}

/// Runs a test with a fleet of its own, and shows all logs if the test fails or takes longer than `limit`.
///
/// # Panics
/// When the test fails.
pub fn run_fleet(limit: Duration, test: impl AsyncFnOnce(&mut Fleet) -> Result<()>) {
    run_with(Fleet::start(), test, limit);
}

impl Fleet {
    async fn start() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("sandgate-fleet-").tempdir()?;
        let network = Arc::new(Network::reserve()?);
        let platform = Platform::start(Arc::clone(&network), folder.path().to_owned()).await?;
        let primary = Cluster::start()?;
        let standby = primary.standby()?;
        let database = primary.new_database()?;
        let admin = primary.url(&database);
        primary.run_sql(&admin, "ALTER SYSTEM SET synchronous_standby_names = 'standby'")?;
        primary.run_sql(&admin, "SELECT pg_reload_conf()")?;
        let mut edge = Setup::default().edge(&network, folder.path())?;
        let mut servers: Vec<ControlPlane> = Vec::new();
        for (number, address) in ADDRESSES.into_iter().enumerate() {
            let port = |known: Option<SocketAddr>| known.map_or(0, |address| address.port());
            let first = servers.first();
            let api = port(first.map(|server| server.api().address()));
            let gateway = port(first.map(|server| server.gateway().address()));
            let folder = folder.path().join(format!("server-{number}"));
            std::fs::create_dir(&folder)?;
            let server = ControlPlane::start(ControlPlaneSetup {
                folder,
                api: (address, api).into(),
                gateway: (address, gateway).into(),
                gateway_tokens: vec![TOKEN.to_owned()],
                domain: DOMAIN.to_owned(),
                proxy_url: "http://localhost:9443".to_owned(),
                drain_seconds: 5,
                enforces_egress: false,
                confirms_public_ports: false,
                runtime: Runtime::Webhook {
                    url: platform.url(),
                    secret: "e2e-webhook-secret-0123456789".to_owned(),
                    cidr: network.cidr(),
                },
                patience: Duration::ZERO,
                desired_state: None,
                tls: None,
                database: Some(primary.url_with(&standby, &database)),
            })
            .await?;
            edge.api_port = server.api().address().port();
            edge.gateway_port = server.gateway().address().port();
            servers.push(server);
        }
        let owner = servers.first().context("no server")?.new_owner("acme")?;
        let mut envoys = Vec::new();
        for number in 0..ADDRESSES.len() {
            let folder = folder.path().join(format!("envoy-{number}"));
            let certificate = certificate_folder(&folder);
            std::fs::create_dir_all(&certificate)?;
            pki::issue(&certificate)?;
            let mut addresses = ADDRESSES.map(|address| address.to_string());
            addresses.rotate_left(number);
            edge.control_plane_address = addresses.join(",");
            let setup = EnvoySetup {
                folder,
                program: artifacts::envoy()?,
                filter: edge.filter().to_owned(),
                configuration: Configuration::Files(Box::new(Files {
                    edge: edge.clone(),
                    token: TOKEN.to_owned(),
                    certificate,
                    change: str::to_owned,
                    change_log: str::to_owned,
                })),
                workers: 1,
                patience: Duration::ZERO,
            };
            envoys.push(Envoy::start(setup).await?);
        }
        Ok(Self { envoys, servers, owner, platform, standby, primary, database, _folder: folder })
    }

    /// The connection string of the database on the first primary.
    #[must_use]
    pub fn database(&self) -> String {
        self.primary.url(&self.database)
    }

    /// Creates a sandbox whose port 8080 is public, and waits until each Envoy follows the change feed and serves it.
    pub async fn public_sandbox(&self, name: &str) -> Result<Sandbox> {
        let api = self.servers.first().context("no server")?.api();
        let request = json!({
            "name": name,
            "exposed_ports": [8080],
            "allow_unauthenticated_access": true,
        });
        let sandbox = self.owner.create(api, request).await?;
        for number in 0..self.envoys.len() {
            until("each Envoy serves the sandbox", Duration::from_secs(30), async || {
                Ok((self.status(number, &sandbox).await? == StatusCode::OK).then_some(()))
            })
            .await?;
            self.until_followed(number).await?;
        }
        Ok(sandbox)
    }

    /// The status of a request to the sandbox through an Envoy.
    pub async fn status(&self, envoy: usize, sandbox: &Sandbox) -> Result<StatusCode> {
        let envoy = self.envoys.get(envoy).context("no such Envoy")?;
        Ok(envoy.edge().get(&sandbox.host(8080), "/health").send().await?.status)
    }

    /// Waits until a control plane holds a poll of an Envoy.
    pub async fn until_followed(&self, envoy: usize) -> Result<()> {
        let envoy = self.envoys.get(envoy).context("no such Envoy")?;
        until("the Envoy follows the change feed", Duration::from_secs(30), async || {
            let held = envoy.stat("cluster.gateway_api.upstream_rq_active").await?;
            Ok((held > 0).then_some(()))
        })
        .await
    }

    /// Makes port 8080 public or closes it, by a call to one control plane. Returns false if the call failed, and nobody
    /// knows whether the change was made.
    pub async fn expose(&self, server: usize, sandbox: &Sandbox, public: bool) -> Result<bool> {
        let server = self.servers.get(server).context("no such server")?;
        let ports: &[u16] = if public { &[8080] } else { &[] };
        let change = json!({ "exposed_ports": ports, "allow_unauthenticated_access": public });
        let path = format!("/sandboxes/{}", sandbox.id);
        let call = self.owner.call(server.api(), http::Method::PATCH, &path).json(&change);
        let Ok(answer) = call.send().await else { return Ok(false) };
        let known = [StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE];
        ensure!(known.contains(&answer.status), "{} {}", answer.status, answer.text());
        Ok(answer.status == StatusCode::OK)
    }

    /// How often a control plane answered a change before all edges had confirmed it, because they took too long.
    #[must_use]
    pub fn slow_changes(&self) -> usize {
        let slow = |server: &ControlPlane| server.output().matches("is slow to apply").count();
        self.servers.iter().map(slow).sum()
    }

    /// The number of calls of the platform with this action for this sandbox.
    #[must_use]
    pub fn platform_calls(&self, action: &str, sandbox: &Sandbox) -> usize {
        self.platform.count(action, &sandbox.id)
    }
}

impl ShowLogs for Fleet {
    async fn show_logs(&self) {
        for (number, server) in self.servers.iter().enumerate() {
            eprintln!("---- control plane {number} ----\n{}", tail(&server.output()));
        }
        for (number, envoy) in self.envoys.iter().enumerate() {
            eprintln!("---- Envoy {number} ----\n{}", tail(&envoy.output().await));
        }
    }
}
