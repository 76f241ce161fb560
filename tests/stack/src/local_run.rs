//! The local run: a control plane, two demo sandboxes, and Envoy; as root, one more sandbox behind a sidecar.
//!
//! Its state is in a folder, which a later run uses again.

pub mod command;
pub mod internet;
pub mod own;
pub mod seed;
pub mod sidecar;
mod state;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use http::StatusCode;
use sandgate_envoy_config::{Edge, Upstream};
use serde_json::json;

use crate::artifacts::{self, EnvoyProgram, root};
use crate::certificate::Certificates;
use crate::control_plane::{ControlPlane, ControlPlaneSetup, DOMAIN, Runtime};
use crate::desired_state::desired_state;
use crate::envoy::{Configuration, Envoy, EnvoySetup};
use crate::files::write_private;
use crate::local_run::command::Command;
use crate::local_run::seed::Variables;
use crate::local_run::sidecar::SidecarDemo;
use crate::local_run::state::State;
use crate::output::{Interrupt, relative, say};
use crate::pki::SECOND_DOMAIN;
use crate::ports::Ports;
use crate::wait::until;

/// The names in the edge's certificate: the sandboxes and this machine.
const CERTIFICATE_NAMES: [&str; 3] = [DOMAIN, "*.sandbox.localhost", "localhost"];
/// The host where Tensorlake's clients look for the API of [`DOMAIN`].
const API_HOST: &str = "api.localhost";
/// The control plane stops its sandboxes in this time.
const PATIENCE: Duration = Duration::from_secs(10);
const NETWORK_PREFIX_LEN: u8 = 16;
/// The name of the edge, as the xDS server knows it.
pub(crate) const NODE: &str = "edge-1";

/// The settings of a run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The folder of the state and the logs.
    pub state: PathBuf,
    pub ports: Ports,
    /// The network of loopback in which each sandbox gets an address; a /16.
    pub network: Ipv4Addr,
    pub upstream: Upstream,
}

impl Settings {
    /// Reads `SANDGATE_STATE_DIR`, `SANDGATE_SANDBOX_NETWORK`, `SANDGATE_UPSTREAM`, and the variables of the ports.
    pub fn from_environment() -> Result<Self> {
        let variable = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        let network =
            variable("SANDGATE_SANDBOX_NETWORK").unwrap_or_else(|| "127.64.0.0".to_owned());
        let upstream = variable("SANDGATE_UPSTREAM").map_or(Ok(Upstream::default()), |name| {
            let wrong = || format!("SANDGATE_UPSTREAM is `{name}`; it takes {}", Upstream::NAMES);
            name.parse().with_context(wrong)
        })?;
        Ok(Self {
            state: state_folder()?,
            ports: Ports::from_environment(variable)?,
            upstream,
            network: network.parse().ok().filter(Ipv4Addr::is_loopback).with_context(|| {
                format!("SANDGATE_SANDBOX_NETWORK is `{network}`; it takes a network of loopback, like 127.64.0.0")
            })?,
        })
    }

    fn cidr(&self) -> String {
        format!("{}/{NETWORK_PREFIX_LEN}", self.network)
    }

    /// The last address that a sandbox may get. None has it yet.
    fn last_address(&self) -> Ipv4Addr {
        let [a, b, ..] = self.network.octets();
        Ipv4Addr::new(a, b, 255, 254)
    }
}

/// The state folder that `SANDGATE_STATE_DIR` names, or `.sandgate`.
pub fn state_folder() -> Result<PathBuf> {
    let folder = std::env::var_os("SANDGATE_STATE_DIR").filter(|folder| !folder.is_empty());
    let folder = folder.map_or_else(|| root().join(".sandgate"), PathBuf::from);
    std::path::absolute(&folder)
        .with_context(|| format!("`{}` can't be a state folder", folder.display()))
}

/// Runs until Ctrl-C, SIGTERM or SIGHUP, or until a part ends.
pub async fn run(settings: &Settings) -> Result<()> {
    let mut interrupt = Interrupt::new()?;
    // Holds the lock until the end.
    let state = State::lock(&settings.state)?;
    settings.ports.require_free(settings.last_address())?;
    let mut serving = Box::pin(serve(settings, &state));
    let outcome = tokio::select! {
        outcome = &mut serving => outcome,
        () = interrupt.received() => {
            say("stopping");
            Ok(())
        }
    };
    // Stops the parts in reverse order of their starts.
    drop(serving);
    state.remove_commands();
    if outcome.is_ok() {
        say("stopped");
    }
    outcome
}

/// Starts all parts, prints the commands, and monitors the parts. Each part stops when this future is dropped.
async fn serve(settings: &Settings, state: &State) -> Result<()> {
    let Settings { ports, .. } = settings;
    let envoy_program = artifacts::envoy_program()?;
    let token = state.gateway_token()?;
    let certificates = Certificates::ensure(&settings.state, &CERTIFICATE_NAMES)?;
    let edge = Edge { upstream: settings.upstream, ..local_edge(ports, settings.network)? };
    say("starting the control plane");
    let mut control_plane = start_control_plane(settings, &edge, &token, &certificates).await?;
    let variables =
        Variables::create(&control_plane, &settings.state, ports, &token, &certificates).await?;
    say("starting the demo sandboxes");
    let my_env = seed::start_sandboxes(&control_plane, variables.api_key()?).await?;
    say("starting Envoy");
    let mut envoy = Envoy::start(EnvoySetup {
        folder: settings.state.clone(),
        program: EnvoyProgram::Path(envoy_program.clone()),
        filter: edge.filter().to_owned(),
        configuration: Configuration::Xds(control_plane.bootstrap(NODE)?),
        workers: 2,
        patience: PATIENCE,
    })
    .await?;
    try_one_request(&mut envoy, ports, variables.api_key()?).await?;
    let (mut demo, left_out) = match sidecar::obstacle() {
        Some(obstacle) => (None, Some(obstacle)),
        None => {
            say("starting a sandbox behind a sidecar");
            (Some(SidecarDemo::start(&settings.state, &envoy_program).await?), None)
        }
    };
    show(settings, state, &my_env, demo.as_ref(), left_out.as_deref())?;
    loop {
        control_plane.require_running()?;
        envoy.require_running()?;
        if let Some(demo) = &mut demo {
            demo.require_running()?;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

async fn start_control_plane(
    settings: &Settings,
    edge: &Edge,
    token: &str,
    certificates: &Certificates,
) -> Result<ControlPlane> {
    let Settings { ports, state, .. } = settings;
    let desired_state = desired_state(edge, &token_file(state), &certificates.directory());
    ControlPlane::start(ControlPlaneSetup {
        folder: settings.state.clone(),
        api: (Ipv4Addr::LOCALHOST, ports.api).into(),
        gateway: (Ipv4Addr::LOCALHOST, ports.gateway).into(),
        gateway_tokens: vec![token.to_owned()],
        domain: DOMAIN.to_owned(),
        proxy_url: format!("http://localhost:{}", ports.edge),
        drain_seconds: 3,
        // Nothing enforces the network policies of these sandboxes, so it accepts none.
        enforces_egress: false,
        confirms_public_ports: false,
        runtime: Runtime::Local { cidr: settings.cidr() },
        patience: PATIENCE,
        desired_state: Some(desired_state),
        tls: None,
        database: None,
    })
    .await
}

/// The edge's values in the local run, without the secrets' files.
pub fn local_edge(ports: &Ports, network: Ipv4Addr) -> Result<Edge> {
    Ok(Edge {
        address: Ipv4Addr::LOCALHOST.into(),
        port: ports.edge,
        tls_port: ports.edge_tls,
        admin_port: ports.admin,
        api_port: ports.api,
        gateway_port: ports.gateway,
        filters: artifacts::filters()?,
        wasm: artifacts::wasm_filter(),
        native: artifacts::native_module(),
        second_domain: SECOND_DOMAIN.to_owned(),
        api_host: API_HOST.to_owned(),
        ..Edge::new(DOMAIN, "127.0.0.1", (network.into(), NETWORK_PREFIX_LEN))
    })
}

/// Sends a request through all parts, so that the printed commands are known to work.
async fn try_one_request(envoy: &mut Envoy, ports: &Ports, api_key: &str) -> Result<()> {
    let host = format!("8080-my-env.{DOMAIN}:{}", ports.edge);
    until("a request through Envoy reaches the sandbox", Duration::from_secs(20), async || {
        envoy.require_running()?;
        let answer = envoy.edge().get(&host, "/health").bearer(api_key).send().await?;
        anyhow::ensure!(answer.status == StatusCode::OK, "{} {}", answer.status, answer.text());
        Ok(Some(()))
    })
    .await
}

fn show(
    settings: &Settings,
    state: &State,
    my_env: &str,
    demo: Option<&SidecarDemo>,
    left_out: Option<&str>,
) -> Result<()> {
    let Settings { state: folder, ports, .. } = settings;
    println!(
        "
Sandgate runs: the edge on http://localhost:{} and https://localhost:{}, the API on
http://localhost:{}, Envoy's admin pages on http://localhost:{}. Logs: {}/*.log.

In another terminal, in {}:

source {}",
        ports.edge,
        ports.edge_tls,
        ports.api,
        ports.admin,
        relative(folder),
        root().display(),
        relative(&folder.join("env"))
    );
    let proxies = ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"];
    if proxies.iter().any(|name| std::env::var_os(name).is_some_and(|proxy| !proxy.is_empty())) {
        println!(
            "export no_proxy=localhost,.localhost,127.0.0.1    # your proxy can't reach this machine's loopback"
        );
    }
    let program = relative(&artifacts::program("sandgate-demo")?);
    let mut commands = command::for_the_edge(ports, &program, my_env);
    let program = relative(&artifacts::program("sandgate")?);
    commands.push(command::nodes(ports, &program, &relative(&token_file(folder)), NODE));
    print_commands(&commands);
    match (demo, left_out) {
        (Some(demo), _) => {
            println!(
                "\nOne more sandbox is behind a sidecar, with a network policy of its own. Try it as root:"
            );
            let more = command::for_the_sidecar(demo);
            print_commands(&more);
            commands.extend(more);
        }
        (None, Some(reason)) => println!("\nNo sandbox is behind a sidecar: {reason}."),
        (None, None) => {}
    }
    let listed: Vec<_> = commands.iter().map(Command::to_json).collect();
    let text = serde_json::to_string_pretty(&json!({ "commands": listed, "left_out": left_out }))?;
    write_private(&state.commands(), &text)?;
    println!("\nSandgate is ready. Ctrl-C stops everything.");
    Ok(())
}

fn print_commands(commands: &[Command]) {
    for command in commands {
        println!("\n# {}\n{}", command.description, command.line);
    }
}

fn token_file(state: &Path) -> PathBuf {
    state.join("gateway-token")
}

/// The file that lists the printed commands while the run with that state folder is up.
#[must_use]
pub fn commands_file(state: &Path) -> PathBuf {
    state.join("commands.json")
}
