//! An Envoy with a configuration of one of the ways.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use sandgate_stack::files::write_private;
use sandgate_stack::{Client, Process, artifacts};
use serde_json::Value;

/// A running Envoy.
pub(crate) struct Envoy {
    process: Process,
    admin: SocketAddr,
    /// The address of each listener.
    listeners: Vec<(String, SocketAddr)>,
}

/// The versions of Envoy that the page promises: the one of all tests, and the oldest.
pub(crate) fn versions() -> Result<[PathBuf; 2]> {
    let script = artifacts::root().join("scripts/envoy");
    let output = Command::new(&script).arg("--oldest").output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`scripts/envoy --oldest` failed: {error}");
    let oldest = String::from_utf8(output.stdout)?;
    Ok([artifacts::envoy_program()?, PathBuf::from(oldest.trim())])
}

impl Envoy {
    /// Starts Envoy with a bootstrap, and waits until it serves.
    pub(crate) async fn start(program: &Path, folder: &Path, bootstrap: &Value) -> Result<Self> {
        let file = folder.join("bootstrap.json");
        write_private(&file, &serde_json::to_string_pretty(bootstrap)?)?;
        Self::start_with(program, folder, &["-c", &file.display().to_string()]).await
    }

    /// Starts Envoy with the arguments that name its configuration.
    pub(crate) async fn start_with(program: &Path, folder: &Path, config: &[&str]) -> Result<Self> {
        let admin_file = folder.join("admin-address");
        drop(std::fs::remove_file(&admin_file));
        let mut command = Command::new(program);
        command.args(config).arg("--admin-address-path").arg(&admin_file);
        command.args(["--disable-hot-restart", "--concurrency", "2", "--log-level", "warning"]);
        command.current_dir(artifacts::root());
        let mut process = Process::start("Envoy", &command, &folder.join("envoy.log"))?;
        let ready = process.until("did not serve", Duration::from_secs(60), async |_| {
            let Ok(text) = std::fs::read_to_string(&admin_file) else { return Ok(None) };
            let Ok(admin) = text.trim().parse::<SocketAddr>() else { return Ok(None) };
            let Ok(ready) = Client::new(admin).get("admin", "/ready").send().await else {
                return Ok(None);
            };
            if ready.status != http::StatusCode::OK {
                return Ok(None);
            }
            let path = "/listeners?format=json";
            let listeners = Client::new(admin).get("admin", path).send().await?.json()?;
            Ok(addresses(&listeners).map(|listeners| (admin, listeners)))
        });
        let (admin, listeners) = ready.await?;
        Ok(Self { process, admin, listeners })
    }

    /// A client of a listener.
    pub(crate) fn client(&self, listener: &str) -> Result<Client> {
        let found = self.listeners.iter().find(|(name, _)| name == listener);
        let (_, address) = found.with_context(|| format!("there is no listener `{listener}`"))?;
        Ok(Client::new(*address))
    }

    /// The sum of all counters whose name matches a regular expression.
    pub(crate) async fn stat(&self, pattern: &str) -> Result<u64> {
        let path = format!("/stats?format=json&filter={pattern}");
        let stats = Client::new(self.admin).get("admin", &path).send().await?.json()?;
        let all = stats["stats"].as_array().context("stats without a list")?;
        Ok(all.iter().filter_map(|stat| stat["value"].as_u64()).sum())
    }

    pub(crate) fn output(&self) -> String {
        self.process.output()
    }
}

/// The addresses of all listeners, once each has a port.
fn addresses(listeners: &Value) -> Option<Vec<(String, SocketAddr)>> {
    let all = listeners["listener_statuses"].as_array()?;
    let each = all.iter().map(|listener| {
        let socket = &listener["local_address"]["socket_address"];
        let port = u16::try_from(socket["port_value"].as_u64()?).ok().filter(|port| *port > 0)?;
        Some((listener["name"].as_str()?.to_owned(), ([127, 0, 0, 1], port).into()))
    });
    each.collect::<Option<Vec<_>>>().filter(|all| !all.is_empty())
}
