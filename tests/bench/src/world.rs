//! What the measurements have in common: the control plane with its sandboxes, the servers, and the folder of a run.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use sandgate_stack::{ControlPlane, ControlPlaneSetup, Owner, Process, Runtime};
use tempfile::TempDir;

use crate::serve::{self, Role};
use crate::webhook::Webhook;

/// The sandboxes of the store. Even numbers are public, odd ones are not.
pub(crate) const SANDBOXES: u64 = 60_000;
/// Without a network namespace, the upstream listens on the addresses of the first sandboxes only.
const FIRST_SANDBOXES: u64 = 2;

/// The network of all sandboxes, as prefix and length.
pub(crate) const NETWORK: (&str, &str) = ("127.96.0.0", "11");
/// A public sandbox, and one that is not.
pub(crate) const PUBLIC: u64 = 0;
pub(crate) const PRIVATE: u64 = 1;

const GATEWAY_TOKEN: &str = "a-gateway-token-for-one-benchmark";
const WEBHOOK_SECRET: &str = "a-webhook-secret-for-one-benchmark";

/// The programs around Envoy. They end with this value.
pub(crate) struct World {
    pub(crate) folder: TempDir,
    pub(crate) control_plane: ControlPlane,
    pub(crate) owner: Owner,
    pub(crate) webhook: Webhook,
    /// The port of every sandbox.
    pub(crate) port: u16,
    pub(crate) authz: Process,
    pub(crate) authz_address: SocketAddr,
    pub(crate) envoy: String,
    pub(crate) api: SocketAddr,
    pub(crate) gateway: SocketAddr,
    _upstream: Process,
}

/// The address of a sandbox of the store.
pub(crate) fn sandbox_address(number: u64) -> Ipv4Addr {
    let [.., b, c, d] = (number + 256).to_be_bytes();
    Ipv4Addr::new(127, 96 + b, c, d)
}

impl World {
    pub(crate) async fn start(has_namespace: bool) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("sandgate-bench-").tempdir()?;
        let port = free_port()?;
        let log = |name: &str| folder.path().join(name);
        let upstreams: Vec<SocketAddr> = if has_namespace {
            vec![SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))]
        } else {
            (0..FIRST_SANDBOXES).map(|it| SocketAddr::from((sandbox_address(it), port))).collect()
        };
        let upstream =
            serve::start(&[], Role::Upstream, &upstreams, None, &log("upstream.log")).await?;
        let authz_address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let target = Some(IpAddr::V4(sandbox_address(PRIVATE)));
        let authz =
            serve::start(&[], Role::Authz, &[authz_address], target, &log("authz.log")).await?;
        // The address of the sandboxes that the control plane itself starts.
        let webhook = Webhook::start(IpAddr::V4(sandbox_address(SANDBOXES + 1))).await?;
        let api = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let gateway = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let setup = ControlPlaneSetup {
            folder: folder.path().to_owned(),
            api,
            gateway,
            gateway_tokens: vec![GATEWAY_TOKEN.to_owned()],
            domain: sandgate_stack::control_plane::DOMAIN.to_owned(),
            proxy_url: "http://localhost:9443".to_owned(),
            drain_seconds: 0,
            enforces_egress: false,
            confirms_public_ports: false,
            runtime: Runtime::Webhook {
                url: webhook.url(),
                secret: WEBHOOK_SECRET.to_owned(),
                cidr: format!("{}/{}", NETWORK.0, NETWORK.1),
            },
            patience: Duration::from_secs(1),
            desired_state: None,
            tls: None,
            database: None,
        };
        let control_plane = ControlPlane::start(setup).await?;
        let owner = control_plane.new_owner("bench")?;
        fill(&folder.path().join("data"), &owner.project, port)?;
        let envoy = sandgate_stack::artifacts::envoy_program()?.display().to_string();
        Ok(Self {
            folder,
            control_plane,
            owner,
            webhook,
            port,
            authz,
            authz_address,
            envoy,
            api,
            gateway,
            _upstream: upstream,
        })
    }

    /// The authority of a sandbox. `{}` stands for any number.
    pub(crate) fn host(&self, number: &str) -> String {
        format!("{}-s{number}.{}", self.port, sandgate_stack::control_plane::DOMAIN)
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) const fn gateway_token() -> &'static str {
        GATEWAY_TOKEN
    }
}

/// A port of loopback on which nothing listens.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Writes the sandboxes into the store, because the public API would take minutes for so many.
fn fill(data: &Path, project: &str, port: u16) -> Result<()> {
    let mut store = rusqlite::Connection::open(data.join("sandgate.db"))?;
    store.busy_timeout(Duration::from_secs(10))?;
    let transaction = store.transaction()?;
    {
        let mut insert = transaction.prepare(
            "INSERT INTO sandboxes (id, name, project_id, state, address, generation, exposed_ports, public, auto_resume, spec, created_at)
             VALUES (?1, ?2, ?3, 'running', ?4, 1, ?5, ?6, 1, '{}', 1700000000000)",
        )?;
        for number in 0..SANDBOXES {
            insert.execute(rusqlite::params![
                format!("benchsandbox0{number:08}"),
                format!("s{number}"),
                project,
                sandbox_address(number).to_string(),
                format!("[{port}]"),
                number % 2 == 0,
            ])?;
        }
    }
    transaction.commit()?;
    Ok(())
}
