//! Where the sandboxes of a run are: in network namespaces, each behind a sidecar, if this machine permits that; otherwise
//! processes on loopback.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use ipnet::Ipv4Net;
use sandgate_netns::{Namespace, Prefix};

use super::far_side::{self, FarSide};
use super::settings::NAMESPACE_NETWORK;
use super::{Settings, data_folder};
use crate::artifacts::program;
use crate::control_plane::{Namespaces, Runtime};
use crate::output::say;
use crate::ports::require_free_for_sandboxes;

/// The place of the sandboxes. Nothing of it is left when this value is dropped.
pub struct Platform {
    runtime: Runtime,
    network: Ipv4Net,
    far_side: Option<FarSide>,
    /// Why sandboxes have no sidecars, or no far side.
    left_out: String,
    _remains: Option<Remains>,
}

/// Removes what a control plane that was killed has left.
struct Remains {
    data: PathBuf,
}

impl Platform {
    /// Chooses the place, and starts what sandboxes in namespaces can reach.
    pub async fn start(settings: &Settings, envoy: &Path) -> Result<Self> {
        if let Some(obstacle) = sandgate_netns::obstacle() {
            let left_out = format!(
                "Network policies are not enforced, and refused: {obstacle}. All else works."
            );
            require_free_for_sandboxes(settings.last_local_address())?;
            say(&left_out);
            return Ok(Self::local(settings.local_network, left_out));
        }
        let remains = Remains { data: data_folder(&settings.state) };
        remains.remove()?;
        let network = settings.namespace_network;
        if let Some(conflict) = sandgate_netns::conflict(network)? {
            anyhow::bail!(
                "the sandboxes' addresses {network} are in use on this machine: {conflict}; set {NAMESPACE_NETWORK} to another range"
            );
        }
        let (far_side, namespaces, left_out) = if settings.joins_the_host {
            let left_out = "Sandboxes are connected to this machine's network, because SANDGATE_INTERNET is `host`.";
            (None, joined_to_the_host(network, envoy), left_out.to_owned())
        } else {
            say("starting the internet of the sandboxes");
            let far_side = FarSide::start(&settings.state).await?;
            let namespaces = far_side.runtime(&settings.state, network, envoy)?;
            (Some(far_side), namespaces, String::new())
        };
        let runtime = Runtime::Namespaces(namespaces);
        Ok(Self { runtime, network, far_side, left_out, _remains: Some(remains) })
    }

    fn local(network: Ipv4Net, left_out: String) -> Self {
        let runtime = Runtime::Local { cidr: network.to_string() };
        Self { runtime, network, far_side: None, left_out, _remains: None }
    }

    #[must_use]
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// The addresses of the sandboxes.
    #[must_use]
    pub fn network(&self) -> Ipv4Net {
        self.network
    }

    /// The internet of the sandboxes, or a sentence that says why there is none.
    pub fn far_side(&self) -> Result<&FarSide, &str> {
        self.far_side.as_ref().ok_or(&self.left_out)
    }

    /// Fails if a part has ended.
    pub fn require_running(&mut self) -> Result<()> {
        self.far_side.as_mut().map_or(Ok(()), FarSide::require_running)
    }
}

fn joined_to_the_host(network: Ipv4Net, envoy: &Path) -> Namespaces {
    Namespaces {
        cidr: network.to_string(),
        internet: "host".to_owned(),
        resolvers: Vec::new(),
        operator_file: None,
        envoy: envoy.to_owned(),
        program: None,
    }
}

impl Remains {
    fn remove(&self) -> Result<()> {
        // Without a data directory, there was no control plane.
        if !self.data.exists() {
            return Ok(());
        }
        let mut command = Command::new(program("sandgate")?);
        let command = command.arg("clean").arg("--data-dir").arg(&self.data).stdin(Stdio::null());
        let output = command.output().context("`sandgate` can't be started")?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`sandgate clean` failed: {error}");
        Ok(())
    }
}

impl Drop for Remains {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            eprintln!("error: {error:#}");
        }
    }
}

/// The paths that a run should have removed at its end and that still exist.
#[must_use]
pub fn left_behind(state: &Path) -> Vec<PathBuf> {
    let data = std::fs::canonicalize(data_folder(state)).unwrap_or_else(|_| data_folder(state));
    let prefix = Prefix::of(&data);
    let (name, links) = (prefix.to_string(), prefix.of_links());
    let in_folder = |folder: &str, start: &str| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let ours = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(start));
        ours.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let internet: Namespace = far_side::namespace(state);
    let mut paths = in_folder("/run/netns", &name);
    paths.extend(in_folder("/run/netns", internet.name()));
    for folder in ["/run", "/etc/netns", "/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
        paths.extend(in_folder(folder, &name));
    }
    paths.extend(in_folder("/sys/class/net", &links));
    paths
}
