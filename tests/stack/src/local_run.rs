//! The local run: a control plane, two demo sandboxes, and Envoy. As root, each sandbox is behind a sidecar.
//!
//! Its state is in a folder, which a later run uses again.

pub mod command;
pub mod far_side;
pub mod internet;
pub mod own;
pub mod platform;
pub mod seed;
mod settings;
mod state;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use http::StatusCode;
use ipnet::Ipv4Net;
use sandgate_envoy_config::Edge;
use sandgate_netns::Prefix;
use serde_json::json;

pub use self::settings::{Settings, state_folder};
use crate::artifacts::{self, EnvoyProgram};
use crate::certificate::Certificates;
use crate::control_plane::{ControlPlane, ControlPlaneSetup, DOMAIN};
use crate::desired_state::desired_state;
use crate::envoy::{Configuration, Envoy, EnvoySetup};
use crate::files::write_private;
use crate::local_run::command::{Command, FirstPage};
use crate::local_run::platform::Platform;
use crate::local_run::seed::Variables;
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
/// The name of the edge, as the xDS server knows it.
pub(crate) const NODE: &str = "edge-1";

/// Runs until Ctrl-C, SIGTERM or SIGHUP, or until a part ends.
pub async fn run(settings: &Settings) -> Result<()> {
    let mut interrupt = Interrupt::new()?;
    // Holds the lock until the end.
    let state = State::lock(&settings.state)?;
    settings.ports.require_free()?;
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
    // Stops after the control plane.
    let mut platform = Platform::start(settings, &envoy_program).await?;
    let edge = Edge { upstream: settings.upstream, ..local_edge(ports, platform.network())? };
    say("starting the control plane");
    let mut control_plane =
        start_control_plane(settings, &platform, &edge, &token, &certificates).await?;
    let mut environment =
        Variables::create(&control_plane, &settings.state, ports, &token, &certificates).await?;
    say("starting the demo sandboxes");
    let my_env = seed::start_sandboxes(&control_plane, environment.api_key()?).await?;
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
    try_one_request(&mut envoy, ports, environment.api_key()?).await?;
    let programs = artifacts::program("sandgate")?;
    let programs = programs.parent().unwrap_or(Path::new("/"));
    environment.complete(
        &settings.state,
        programs,
        variables(&settings.state, &my_env, &platform)?,
    )?;
    show(settings, state, &platform)?;
    loop {
        control_plane.require_running()?;
        envoy.require_running()?;
        platform.require_running()?;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

async fn start_control_plane(
    settings: &Settings,
    platform: &Platform,
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
        // Where no sidecar enforces network policies, it accepts none.
        enforces_egress: platform.runtime().has_sidecars(),
        confirms_public_ports: false,
        runtime: platform.runtime().clone(),
        patience: PATIENCE,
        desired_state: Some(desired_state),
        tls: None,
        database: None,
    })
    .await
}

/// The edge's values in the local run, without the secrets' files.
pub fn local_edge(ports: &Ports, network: Ipv4Net) -> Result<Edge> {
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
        ..Edge::new(DOMAIN, "127.0.0.1", (network.network().into(), network.prefix_len()))
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

/// Prints the first page, and writes all commands to a file for `scripts/try`.
fn show(settings: &Settings, state: &State, platform: &Platform) -> Result<()> {
    let Settings { state: folder, ports, .. } = settings;
    let left_out = platform.far_side().err();
    let page = FirstPage {
        ports,
        env: &relative(&folder.join("env")),
        folder: &relative(folder),
        left_out,
    };
    let mut commands = page.commands();
    commands.extend(command::for_the_edge());
    commands.push(command::nodes(NODE));
    if left_out.is_none() {
        commands.extend(command::for_the_policy());
    }
    let listed: Vec<_> = commands.iter().map(Command::to_json).collect();
    let list = json!({ "commands": listed, "left_out": left_out });
    write_private(&state.commands(), &serde_json::to_string_pretty(&list)?)?;
    println!("\n{}", page.text());
    Ok(())
}

/// The variables of the printed commands that are known when everything runs. Their names are not those of the programs' own
/// settings, which would apply to everything else that is started in the same shell.
fn variables(
    state: &Path,
    my_env: &str,
    platform: &Platform,
) -> Result<Vec<(&'static str, String)>> {
    let mut variables = vec![
        ("SANDGATE_MY_ENV", my_env.to_owned()),
        ("SANDGATE_RUN_DATA_DIR", data_folder(state).display().to_string()),
        ("SANDGATE_GATEWAY_TOKEN_FILE", token_file(state).display().to_string()),
    ];
    if let Ok(far_side) = platform.far_side() {
        // The control plane names its namespaces by its data directory.
        let prefix = Prefix::of(&std::fs::canonicalize(data_folder(state))?);
        variables.push(("SANDGATE_MY_ENV_NAMESPACE", format!("{prefix}-{my_env}-sandbox")));
        variables.push(("SANDGATE_INTERNET_CA", far_side.authority().display().to_string()));
    }
    Ok(variables)
}

/// The data directory of the control plane.
fn data_folder(state: &Path) -> PathBuf {
    state.join("data")
}

fn token_file(state: &Path) -> PathBuf {
    state.join("gateway-token")
}

/// The file that lists the printed commands while the run with that state folder is up.
#[must_use]
pub fn commands_file(state: &Path) -> PathBuf {
    state.join("commands.json")
}
