//! What edges get by xDS.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::ControlPlane;
use crate::artifacts::program;
use crate::files::write_private;
use crate::wait::until;

/// The time for a change that the control plane finds within a second.
const PATIENCE: Duration = Duration::from_secs(30);

impl ControlPlane {
    /// Replaces the desired state of the edges. The control plane reads the file again soon.
    pub fn set_desired_state(&self, state: &Value) -> Result<()> {
        write_private(&self.desired_state_file(), &format!("{state:#}\n"))
    }

    /// Replaces the desired state by another one, and waits until the control plane serves it.
    pub async fn replace_desired_state(&self, state: &Value) -> Result<()> {
        let changes = || self.output().matches("the desired state changed").count();
        let before = changes();
        self.set_desired_state(state)?;
        until("the control plane serves the new desired state", PATIENCE, async || {
            Ok((changes() > before).then_some(()))
        })
        .await
    }

    /// The file of the desired state.
    #[must_use]
    pub fn desired_state_file(&self) -> PathBuf {
        self.setup.folder.join("desired-state.json")
    }

    /// The file with the key of the nodes' tokens.
    #[must_use]
    pub fn xds_key_file(&self) -> PathBuf {
        self.setup.folder.join("xds-key")
    }

    /// The address of the xDS server, if there is one.
    #[must_use]
    pub fn xds_address(&self) -> Option<SocketAddr> {
        self.xds
    }

    /// The bootstrap with which an edge gets the desired state.
    pub fn bootstrap(&self, node: &str) -> Result<String> {
        let xds = self.xds.context("this control plane serves no xDS")?;
        let output = Command::new(program("sandgate")?)
            .args(["bootstrap", "edge", "--node", node])
            .arg("--xds-state")
            .arg(self.desired_state_file())
            .arg("--xds-key-file")
            .arg(self.xds_key_file())
            .args(["--xds-host", &xds.ip().to_string(), "--xds-port", &xds.port().to_string()])
            .output()?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`sandgate bootstrap edge` failed: {error}");
        Ok(String::from_utf8(output.stdout)?)
    }

    /// What `sandgate xds nodes` prints.
    pub fn xds_nodes(&self) -> Result<Value> {
        let output = Command::new(program("sandgate")?)
            .args(["xds", "nodes", "--json", "--gateway-url"])
            .arg(format!("http://{}", self.setup.gateway))
            .arg("--gateway-token-file")
            .arg(self.gateway_token_file())
            .output()?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`sandgate xds nodes` failed: {error}");
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}
