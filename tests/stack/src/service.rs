//! A stack for programs in other languages: it is described by options, and answers with JSON.
//!
//! It ends when its standard input ends, so it never outlives the program that started it.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use ipnet::Ipv4Net;
use sandgate_envoy_config::{Edge, Upstream};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;

use crate::artifacts::{self, EnvoyProgram};
use crate::certificate::Certificates;
use crate::control_plane::{ControlPlane, ControlPlaneSetup, DOMAIN, Runtime};
use crate::desired_state::desired_state;
use crate::envoy::{Configuration, Envoy, EnvoySetup, Files};
use crate::files::create_private_folder;
use crate::local_run::platform::Platform;
use crate::local_run::{NODE, Settings, local_edge};
use crate::network::free_range;
use crate::output::Interrupt;
use crate::ports::{Ports, SANDBOX_PORTS, listen_error};
use crate::token::random_token;

const PATIENCE: Duration = Duration::from_secs(10);

/// The options of a stack. Ports without an option are unused ports.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Folder of the data, the secrets, and the logs
    #[arg(long)]
    folder: PathBuf,
    /// Domain of the sandboxes
    #[arg(long, default_value = DOMAIN)]
    domain: String,
    /// URL of the edge that the API returns, instead of the edge's port on localhost
    #[arg(long)]
    proxy_url: Option<String>,
    /// Host of the API outside of the domains
    #[arg(long, default_value = "api.localhost")]
    api_host: String,
    /// Name in the edge's certificate, once for each. The authority is limited to the last one and the names below it
    #[arg(long = "certificate-name")]
    certificate_names: Vec<String>,
    /// Port of the edge, plain text
    #[arg(long)]
    edge_port: Option<u16>,
    /// Port of the edge, TLS
    #[arg(long)]
    edge_tls_port: Option<u16>,
    /// Address of the gateway API
    #[arg(long, default_value = "127.0.0.1")]
    gateway_address: IpAddr,
    /// Origin that may use cookies, once for each
    #[arg(long = "trusted-origin")]
    trusted_origins: Vec<String>,
    /// Number of Envoy's worker threads
    #[arg(long, default_value_t = 2)]
    workers: u32,
    /// Accept network policies, because sidecars enforce them
    #[arg(long)]
    enforce_egress: bool,
    /// Run sandboxes in network namespaces with a small internet, each behind a sidecar that enforces its network policy
    #[arg(long, conflicts_with_all = ["enforce_egress", "webhook_url"])]
    namespaces: bool,
    /// Refuse to make private ports public without a confirmation
    #[arg(long)]
    confirm_public_ports: bool,
    /// URL of the platform where sandboxes run, instead of processes on this machine
    #[arg(long, requires = "webhook_secret")]
    webhook_url: Option<String>,
    /// Secret that signs the calls of the platform
    #[arg(long)]
    webhook_secret: Option<String>,
    /// Start no Envoy
    #[arg(long)]
    no_envoy: bool,
    /// Configure Envoy by xDS
    #[arg(long, conflicts_with = "no_envoy")]
    xds: bool,
}

/// Starts the stack, prints one line of JSON when it is ready, and runs until the standard input ends or a signal
/// arrives. Fails if a part ends.
pub async fn serve(options: Options) -> Result<()> {
    let mut interrupt = Interrupt::new()?;
    tokio::select! {
        outcome = run(options) => outcome,
        () = interrupt.received() => Ok(()),
        () = end_of_input() => Ok(()),
    }
}

async fn end_of_input() {
    let mut input = tokio::io::stdin();
    let mut buffer = [0; 64];
    while matches!(input.read(&mut buffer).await, Ok(length) if length > 0) {}
}

async fn run(options: Options) -> Result<()> {
    create_private_folder(&options.folder)?;
    let free = Ports::free()?;
    let ports = Ports {
        edge: options.edge_port.unwrap_or(free.edge),
        edge_tls: options.edge_tls_port.unwrap_or(free.edge_tls),
        ..free
    };
    let network = Ipv4Net::new(free_network()?, 16)?;
    // Stops after the control plane.
    let mut platform = match options.namespaces {
        true => Some(start_platform(&options.folder, ports, network).await?),
        false => None,
    };
    let network = platform.as_ref().map_or(network, Platform::network);
    let runtime = platform.as_ref().map(|platform| platform.runtime().clone());
    let runtime = runtime.unwrap_or_else(|| runtime_without_sidecars(&options, network));
    let token = random_token()?;
    let edge = Edge {
        domain: options.domain.clone(),
        api_host: options.api_host.clone(),
        trusted_origins: json!(options.trusted_origins),
        ..local_edge(&ports, network)?
    };
    let certificates = match options.no_envoy {
        true => None,
        false => Some(certificates(&options)?),
    };
    let desired_state = certificates.as_ref().filter(|_| options.xds).map(|certificates| {
        let tokens = options.folder.join("gateway-token");
        desired_state(&edge, &tokens, &certificates.directory())
    });
    let mut control_plane =
        start_control_plane(&options, &ports, runtime, &token, desired_state).await?;
    let owner = control_plane.new_owner("clients")?;
    let mut ready = json!({
        "api_port": ports.api,
        "gateway_port": ports.gateway,
        "gateway_token_file": control_plane.gateway_token_file(),
        "control_plane_log": control_plane.log(),
        "organization": owner.organization,
        "project": owner.project,
        "api_key": owner.api_key,
        "pat": owner.pat,
        "session": owner.session,
    });
    let mut envoy = None;
    if let Some(certificates) = certificates {
        let configuration = if options.xds {
            let xds = control_plane.xds_address().context("the control plane serves no xDS")?;
            extend(
                &mut ready,
                json!({
                    "xds_port": xds.port(),
                    "xds_state": control_plane.desired_state_file(),
                    "xds_key_file": control_plane.xds_key_file(),
                }),
            );
            Configuration::Xds(control_plane.bootstrap(NODE)?)
        } else {
            Configuration::Files(Box::new(Files {
                edge: edge.clone(),
                token,
                certificate: certificates.directory(),
                change: str::to_owned,
                change_log: str::to_owned,
            }))
        };
        let setup = EnvoySetup {
            folder: options.folder.clone(),
            program: EnvoyProgram::Path(artifacts::envoy_program()?),
            filter: edge.filter().to_owned(),
            configuration,
            workers: options.workers,
            patience: PATIENCE,
        };
        let started = Envoy::start(setup).await?;
        extend(
            &mut ready,
            json!({
                "edge_port": ports.edge,
                "edge_tls_port": ports.edge_tls,
                "admin_port": ports.admin,
                "envoy_log": options.folder.join("envoy.log"),
                "envoy_process": started.process_id(),
                "authority": certificates.authority(),
                "certificate_folder": certificates.directory(),
            }),
        );
        envoy = Some(started);
    }
    println!("{ready}");
    std::io::stdout().flush()?;
    loop {
        control_plane.require_running()?;
        if let Some(envoy) = &mut envoy {
            envoy.require_running()?;
        }
        if let Some(platform) = &mut platform {
            platform.require_running()?;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

fn certificates(options: &Options) -> Result<Certificates> {
    let names: Vec<&str> = options.certificate_names.iter().map(String::as_str).collect();
    let names = if names.is_empty() { vec!["*.sandbox.localhost", "localhost"] } else { names };
    Certificates::ensure(&options.folder, &names)
}

fn extend(object: &mut Value, more: Value) {
    if let (Some(object), Value::Object(more)) = (object.as_object_mut(), more) {
        object.extend(more);
    }
}

/// Sandboxes in network namespaces. Fails where the machine permits none.
async fn start_platform(folder: &Path, ports: Ports, local_network: Ipv4Net) -> Result<Platform> {
    let settings = Settings {
        state: folder.to_owned(),
        ports,
        local_network,
        namespace_network: free_range()?,
        joins_the_host: false,
        upstream: Upstream::default(),
    };
    let platform = Platform::start(&settings, &artifacts::envoy_program()?).await?;
    if let Err(reason) = platform.far_side() {
        bail!("{reason}");
    }
    Ok(platform)
}

fn runtime_without_sidecars(options: &Options, network: Ipv4Net) -> Runtime {
    match (&options.webhook_url, &options.webhook_secret) {
        (Some(url), Some(secret)) => Runtime::Webhook {
            url: url.clone(),
            secret: secret.clone(),
            // The platform's addresses are not used.
            cidr: "10.0.0.0/8".to_owned(),
        },
        _ => Runtime::Local { cidr: network.to_string() },
    }
}

async fn start_control_plane(
    options: &Options,
    ports: &Ports,
    runtime: Runtime,
    token: &str,
    desired_state: Option<Value>,
) -> Result<ControlPlane> {
    let proxy_url = options.proxy_url.clone();
    ControlPlane::start(ControlPlaneSetup {
        folder: options.folder.clone(),
        api: SocketAddr::from((Ipv4Addr::LOCALHOST, ports.api)),
        gateway: SocketAddr::new(options.gateway_address, ports.gateway),
        gateway_tokens: vec![token.to_owned()],
        domain: options.domain.clone(),
        proxy_url: proxy_url.unwrap_or_else(|| format!("http://localhost:{}", ports.edge)),
        drain_seconds: 3,
        enforces_egress: options.enforce_egress || runtime.has_sidecars(),
        confirms_public_ports: options.confirm_public_ports,
        runtime,
        patience: PATIENCE,
        desired_state,
        tls: None,
        database: None,
    })
    .await
}

/// A /16 of loopback where nobody listens on the sandboxes' ports, outside of the networks of local runs.
fn free_network() -> Result<Ipv4Addr> {
    let start = std::process::id();
    (0..127)
        .filter_map(|offset| u8::try_from(128 + (start + offset) % 127).ok())
        .map(|second| Ipv4Addr::new(127, second, 0, 0))
        .find(|network| {
            let [a, b, ..] = network.octets();
            let is_free = |host| {
                let address = IpAddr::V4(Ipv4Addr::new(a, b, 0, host));
                SANDBOX_PORTS.iter().all(|port| listen_error(address, *port).is_none())
            };
            is_free(1) && is_free(2)
        })
        .context("all of loopback is in use on the ports of the demo sandboxes; stop what listens on all addresses")
}
