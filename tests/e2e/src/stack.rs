//! A complete stack for one test: a network, a control plane, an owner, and Envoys.

use std::net::{Ipv4Addr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::FutureExt as _;
use sandgate_envoy_config::{Authorities, ControlPlaneTls, Edge, Upstream};
use serde_json::{Value, json};

use crate::platform::Platform;
use crate::setup::{Setup, TlsToControlPlane};
use sandgate_stack::control_plane::DOMAIN;
use sandgate_stack::desired_state::desired_state;
use sandgate_stack::envoy::{Configuration, Files};
use sandgate_stack::{
    Client, ControlPlane, ControlPlaneSetup, Envoy, EnvoySetup, Network, Owner, Runtime, Sandbox,
    artifacts, pki,
};

/// A test that takes longer fails.
const LIMIT: Duration = Duration::from_secs(180);

pub use sandgate_stack::pki::SECOND_DOMAIN;

/// The host of the public API outside of the domains, where clients of [`DOMAIN`] expect it.
pub const API_HOST: &str = "api.localhost";

/// The gateway's own credential.
pub const TOKEN: &str = "e2e-gateway-token-0123456789abcdef";
/// A second token, which is valid at the same time, as during a rotation.
pub const NEXT_TOKEN: &str = "e2e-gateway-token-fedcba9876543210";

/// The number of worker threads of each Envoy. With more than one, a test fails if it depends on shared state of workers.
pub const WORKERS: u32 = 2;

/// The stack of one test. Its parts are stopped in the order of the fields.
pub struct Stack {
    pub envoys: Vec<Envoy>,
    pub control_plane: ControlPlane,
    platform: Option<Platform>,
    /// The owner of the test's sandboxes.
    pub owner: Owner,
    /// The sandboxes' network.
    pub network: Arc<Network>,
    /// What the Envoys get by xDS, if they do.
    pub desired_state: Option<Value>,
    folder: tempfile::TempDir,
}

/// Runs a test with a separate stack, and shows all logs if the test fails.
///
/// # Panics
/// When the test fails.
pub fn run(setup: Setup, test: impl AsyncFnOnce(&mut Stack) -> Result<()>) {
    run_with(Stack::start(setup), test, LIMIT);
}

/// Runs a test with what `start` results in.
pub(crate) fn run_with<S: ShowLogs>(
    start: impl Future<Output = Result<S>>,
    test: impl AsyncFnOnce(&mut S) -> Result<()>,
    limit: Duration,
) {
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("no runtime")
        .and_then(|runtime| runtime.block_on(async { run_in(start.await?, test, limit).await }));
    if let Err(error) = outcome {
        fail(&format!("{error:?}"));
    }
}

/// What a test runs with.
pub(crate) trait ShowLogs {
    /// Shows the logs of all parts, for a test that failed.
    async fn show_logs(&self);
}

#[expect(clippy::panic, reason = "how a test says that it failed")]
fn fail(reason: &str) -> ! {
    panic!("{reason}")
}

async fn run_in<S: ShowLogs>(
    mut stack: S,
    test: impl AsyncFnOnce(&mut S) -> Result<()>,
    limit: Duration,
) -> Result<()> {
    // A panic is caught so that the logs can be shown and the stack is stopped in order.
    let test = AssertUnwindSafe(tokio::time::timeout(limit, test(&mut stack))).catch_unwind();
    let outcome = match test.await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Err(anyhow::anyhow!("the test took longer than {limit:?}")),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Err(anyhow::anyhow!("the test panicked: {}", text.unwrap_or_default()))
        }
    };
    if outcome.is_err() {
        stack.show_logs().await;
    }
    outcome
}

impl Stack {
    async fn start(setup: Setup) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("sandgate-e2e-").tempdir()?;
        let network = Arc::new(Network::reserve()?);
        let platform = match setup.webhook {
            true => Some(Platform::start(Arc::clone(&network), folder.path().to_owned()).await?),
            false => None,
        };
        let runtime = match &platform {
            Some(platform) => Runtime::Webhook {
                url: platform.url(),
                secret: "e2e-webhook-secret-0123456789".to_owned(),
                cidr: network.cidr(),
            },
            None => Runtime::Local { cidr: network.cidr() },
        };
        let mut edge = setup.edge(&network, folder.path())?;
        edge.control_plane_tls = control_plane_tls(
            setup.tls_to_control_plane,
            &certificate_folder(&folder.path().join("envoy-0")),
        )?;
        // The desired state names the first one, also for an Envoy that a test starts by itself.
        for number in 0..setup.envoys.max(1) {
            let certificate = certificate_folder(&folder.path().join(format!("envoy-{number}")));
            std::fs::create_dir_all(&certificate)?;
            pki::issue(&certificate)?;
        }
        let certificate = certificate_folder(&folder.path().join("envoy-0"));
        let tokens = folder.path().join("gateway-token");
        let state = |edge: &Edge| desired_state(edge, &tokens, &certificate);
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let tls = match setup.tls_to_control_plane {
            TlsToControlPlane::Absent => None,
            _ => Some(folder.path().join("control-plane-tls")),
        };
        if let Some(folder) = &tls {
            std::fs::create_dir(folder)?;
            pki::issue(folder)?;
            std::fs::write(folder.join("ca.crt"), pki::trusted()?)?;
        }
        let control_plane = ControlPlane::start(ControlPlaneSetup {
            folder: folder.path().to_owned(),
            tls,
            api: any_port,
            gateway: any_port,
            gateway_tokens: vec![TOKEN.to_owned(), NEXT_TOKEN.to_owned()],
            domain: DOMAIN.to_owned(),
            proxy_url: "http://localhost:9443".to_owned(),
            drain_seconds: setup.drain_seconds,
            enforces_egress: false,
            confirms_public_ports: false,
            runtime,
            patience: Duration::ZERO,
            desired_state: setup.by_xds.then(|| state(&edge)),
            database: None,
        })
        .await?;
        let owner = control_plane.new_owner("acme")?;
        edge.api_port = control_plane.api().address().port();
        edge.gateway_port = control_plane.gateway().address().port();
        let desired_state = setup.by_xds.then(|| state(&edge));
        if let Some(state) = &desired_state {
            // An Envoy that starts earlier would get the ports of nobody's APIs first.
            control_plane.replace_desired_state(state).await?;
        }
        let mut envoys = Vec::new();
        for number in 0..setup.envoys {
            let folder = folder.path().join(format!("envoy-{number}"));
            let certificate = certificate_folder(&folder);
            let configuration = match setup.by_xds {
                true => Configuration::Xds(control_plane.bootstrap(&format!("edge-{number}"))?),
                false => Configuration::Files(Box::new(Files {
                    edge: edge.clone(),
                    token: TOKEN.to_owned(),
                    certificate,
                    change: setup.change,
                    change_log: setup.change_log,
                })),
            };
            let setup = EnvoySetup {
                folder,
                program: artifacts::envoy()?,
                filter: edge.filter().to_owned(),
                configuration,
                workers: WORKERS,
                patience: Duration::ZERO,
            };
            envoys.push(Envoy::start(setup).await?);
        }
        Ok(Self { envoys, control_plane, platform, owner, network, desired_state, folder })
    }

    /// The operator's platform. Fails if the setup has none.
    pub fn platform(&self) -> Result<&Platform> {
        self.platform.as_ref().context("this stack has no platform: set `webhook` in the setup")
    }

    /// The folder with the first Envoy's `tls.crt` and `tls.key`.
    #[must_use]
    pub fn certificate_folder(&self) -> PathBuf {
        certificate_folder(&self.folder.path().join("envoy-0"))
    }

    /// The folder with the control plane's `tls.crt` and `tls.key`, if it uses TLS.
    #[must_use]
    pub fn control_plane_tls_folder(&self) -> PathBuf {
        self.folder.path().join("control-plane-tls")
    }

    /// The first Envoy.
    #[must_use]
    pub fn envoy(&self) -> &Envoy {
        // INVARIANT: every setup has at least one Envoy.
        #[expect(clippy::indexing_slicing, reason = "see above")]
        &self.envoys[0]
    }

    /// A client of the first Envoy's plain-text port.
    #[must_use]
    pub fn edge(&self) -> Client {
        self.envoy().edge()
    }

    /// A client of the first Envoy's TLS port.
    #[must_use]
    pub fn edge_tls(&self) -> Client {
        self.envoy().edge_tls()
    }

    /// A client of the public API.
    #[must_use]
    pub fn api(&self) -> Client {
        self.control_plane.api()
    }

    /// The API key of the owner.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.owner.api_key
    }

    /// Creates a sandbox, and waits until it runs.
    pub async fn sandbox(&self, request: Value) -> Result<Sandbox> {
        self.owner.create(self.api(), request).await
    }

    /// Creates the sandbox `my-env` with the three ports of the demo exposed to authenticated requests.
    pub async fn my_env(&self) -> Result<Sandbox> {
        self.sandbox(json!({ "name": "my-env", "exposed_ports": [8080, 3000, 50051] })).await
    }

    /// Creates the sandbox `my-env` with the three ports of the demo public.
    pub async fn public_env(&self) -> Result<Sandbox> {
        self.sandbox(json!({
            "name": "my-env",
            "exposed_ports": [8080, 3000, 50051],
            "allow_unauthenticated_access": true,
        }))
        .await
    }
}

impl ShowLogs for Stack {
    async fn show_logs(&self) {
        eprintln!("---- control plane ----\n{}", tail(&self.control_plane.output()));
        for (number, envoy) in self.envoys.iter().enumerate() {
            eprintln!("---- Envoy {number} ----\n{}", tail(&envoy.output().await));
        }
    }
}

/// What the edge expects of the control plane, and shows to it.
fn control_plane_tls(
    setup: TlsToControlPlane,
    certificate: &Path,
) -> Result<Option<ControlPlaneTls>> {
    let right = || {
        anyhow::Ok(ControlPlaneTls {
            authorities: Authorities::Text(pki::trusted()?),
            name: DOMAIN.to_owned(),
            certificate: Some(certificate.to_owned()),
        })
    };
    Ok(match setup {
        TlsToControlPlane::Absent | TlsToControlPlane::PlainText => None,
        TlsToControlPlane::Right => Some(right()?),
        TlsToControlPlane::OtherName => {
            Some(ControlPlaneTls { name: "control-plane.example".to_owned(), ..right()? })
        }
        TlsToControlPlane::OtherIssuer => {
            let authorities = Authorities::Text(pki::another_authority()?);
            Some(ControlPlaneTls { authorities, ..right()? })
        }
        TlsToControlPlane::NoCertificate => Some(ControlPlaneTls { certificate: None, ..right()? }),
    })
}

/// The setting for tests that don't choose one: `SANDGATE_E2E_UPSTREAM`.
pub fn upstream_of_this_run() -> Result<Upstream> {
    match std::env::var("SANDGATE_E2E_UPSTREAM").ok().filter(|name| !name.is_empty()) {
        Some(name) => name.parse().with_context(|| format!("SANDGATE_E2E_UPSTREAM is `{name}`")),
        None => Ok(Upstream::default()),
    }
}

pub(crate) fn certificate_folder(envoy: &Path) -> PathBuf {
    envoy.join("tls")
}

/// The last 60 lines of a log.
pub(crate) fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let skip = lines.len().saturating_sub(60);
    lines.iter().skip(skip).copied().collect::<Vec<_>>().join("\n")
}
