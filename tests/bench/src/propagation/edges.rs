//! The Envoys, each with one worker. Half of them prefer the first control plane, half the second.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::future::try_join_all;
use sandgate_envoy_config::Edge;
use sandgate_stack::control_plane::DOMAIN;
use sandgate_stack::envoy::{Configuration, Files};
use sandgate_stack::{ControlPlane, Envoy, EnvoySetup, artifacts, pki};

use super::fleet::{NETWORK, SERVERS, TOKEN};

/// Starts so many Envoys for the control planes, of which `server` is one. Returns where they listen, too.
pub(super) async fn start(
    count: usize,
    server: &ControlPlane,
    folder: &Path,
) -> Result<(Vec<SocketAddr>, Vec<Envoy>)> {
    let ports = (server.api().address().port(), server.gateway().address().port());
    let mut starting = Vec::new();
    for number in 0..count {
        let mut servers = SERVERS.map(|address| address.to_string());
        servers.rotate_left(number % SERVERS.len());
        let folder = folder.join(format!("envoy-{number}"));
        let setup = setup(&folder, &servers.join(","), ports)?;
        starting.push(Envoy::start(setup));
    }
    let envoys = try_join_all(starting).await?;
    Ok((envoys.iter().map(|envoy| envoy.edge().address()).collect(), envoys))
}

fn setup(folder: &Path, servers: &str, (api, gateway): (u16, u16)) -> Result<EnvoySetup> {
    let certificate = folder.join("tls");
    std::fs::create_dir_all(&certificate)?;
    pki::issue(&certificate)?;
    let path = |path: std::path::PathBuf| path.display().to_string();
    let variable = |name: &str| {
        Some(match name {
            "SANDGATE_DOMAIN" => DOMAIN.to_owned(),
            "SANDGATE_EDGE_ADDRESS" => "127.0.0.1".to_owned(),
            "SANDGATE_EDGE_PORT" | "SANDGATE_EDGE_TLS_PORT" | "SANDGATE_ADMIN_PORT" => {
                "0".to_owned()
            }
            "SANDGATE_CONTROL_PLANE_ADDRESS" => servers.to_owned(),
            "SANDGATE_API_PORT" => api.to_string(),
            "SANDGATE_GATEWAY_PORT" => gateway.to_string(),
            "SANDGATE_SANDBOX_NETWORK" => NETWORK.0.to_string(),
            "SANDGATE_SANDBOX_PREFIX_LEN" => NETWORK.1.to_string(),
            "SANDGATE_FILTERS" => artifacts::filters().ok()?.name().to_owned(),
            "SANDGATE_WASM" => path(artifacts::wasm_filter()),
            "SANDGATE_NATIVE" => path(artifacts::native_module()),
            _ => return None,
        })
    };
    let edge = Edge::from_environment(variable, folder, folder).context("the edge's values")?;
    Ok(EnvoySetup {
        folder: folder.to_owned(),
        program: artifacts::EnvoyProgram::Path(artifacts::envoy_program()?),
        filter: edge.filter().to_owned(),
        configuration: Configuration::Files(Box::new(Files {
            edge,
            token: TOKEN.to_owned(),
            certificate,
            change: str::to_owned,
            change_log: str::to_owned,
        })),
        workers: 1,
        patience: Duration::ZERO,
    })
}
