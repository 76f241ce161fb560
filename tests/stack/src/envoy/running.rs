//! A running Envoy, as a process or in a container.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use http::{Method, StatusCode};
use serde_json::Value;
#[cfg(feature = "container")]
use testcontainers::{ContainerAsync, GenericImage};

use crate::artifacts::EnvoyProgram;
use crate::client::Client;
use crate::process::Process;
#[cfg(feature = "container")]
use crate::wait::until;

/// The addresses of Envoy's listeners.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addresses {
    pub(super) edge: SocketAddr,
    pub(super) edge_tls: SocketAddr,
    pub(super) admin: SocketAddr,
}

/// An Envoy, however it runs.
pub(super) enum Running {
    #[cfg(feature = "container")]
    Container(Box<ContainerAsync<GenericImage>>),
    Process(Box<Process>),
}

impl Running {
    /// Starts Envoy. `folder` and `filter` are what it reads.
    #[cfg_attr(
        not(feature = "container"),
        expect(
            clippy::unused_async,
            unused_variables,
            reason = "containers start slowly and need more folders"
        )
    )]
    pub(super) async fn start(
        program: &EnvoyProgram,
        arguments: &[&str],
        folder: &Path,
        filter: &Path,
        patience: Duration,
    ) -> Result<Self> {
        match program {
            EnvoyProgram::Path(path) => {
                let mut command = Command::new(path);
                command.args(arguments);
                let process = Process::start("Envoy", &command, &folder.join("envoy.log"))?;
                Ok(Self::Process(Box::new(process.with_patience(patience))))
            }
            #[cfg(feature = "container")]
            EnvoyProgram::Image { name, tag } => {
                start_container(name, tag, arguments, folder, filter).await
            }
            #[cfg(not(feature = "container"))]
            EnvoyProgram::Image { .. } => {
                anyhow::bail!("this program was built without the feature `container`")
            }
        }
    }

    /// The output of Envoy.
    pub(super) async fn output(&self) -> String {
        match self {
            Self::Process(process) => process.output(),
            #[cfg(feature = "container")]
            Self::Container(container) => {
                let mut bytes = container.stdout_to_vec().await.unwrap_or_default();
                bytes.extend(container.stderr_to_vec().await.unwrap_or_default());
                String::from_utf8_lossy(&bytes).into_owned()
            }
        }
    }

    /// The process id, if it is not in a container.
    pub(super) fn process_id(&self) -> Option<u32> {
        match self {
            Self::Process(process) => Some(process.id()),
            #[cfg(feature = "container")]
            Self::Container(_) => None,
        }
    }

    /// Fails if the process has ended.
    pub(super) fn require_running(&mut self) -> Result<()> {
        match self {
            Self::Process(process) => process.require_running(),
            #[cfg(feature = "container")]
            Self::Container(_) => Ok(()),
        }
    }

    /// Waits until Envoy serves; returns the addresses of its listeners and its admin interface.
    pub(super) async fn until_ready(&mut self, admin_file: &Path) -> Result<Addresses> {
        const LIMIT: Duration = Duration::from_secs(60);
        match self {
            Self::Process(process) => {
                process
                    .until("did not serve", LIMIT, async |_| find_addresses(admin_file).await)
                    .await
            }
            #[cfg(feature = "container")]
            Self::Container(container) => {
                let ready = until("Envoy serves", LIMIT, async || {
                    ensure!(container.is_running().await.unwrap_or(false), "Envoy has ended");
                    find_addresses(admin_file).await
                });
                match ready.await {
                    Ok(addresses) => Ok(addresses),
                    Err(error) => {
                        Err(error.context(format!("Envoy's log:\n{}", self.output().await)))
                    }
                }
            }
        }
    }
}

#[cfg(feature = "container")]
async fn start_container(
    name: &str,
    tag: &str,
    arguments: &[&str],
    folder: &Path,
    filter: &Path,
) -> Result<Running> {
    use testcontainers::ImageExt as _;
    use testcontainers::core::Mount;
    use testcontainers::runners::AsyncRunner as _;

    // The same paths inside and outside: one configuration fits both.
    let same = |path: &Path| {
        let path = path.display().to_string();
        Mount::bind_mount(path.clone(), path)
    };
    let container = GenericImage::new(name, tag)
        .with_entrypoint("envoy")
        .with_cmd(arguments.iter().copied())
        // Sandboxes are on this machine's loopback addresses.
        .with_network("host")
        .with_user("0")
        .with_mount(same(folder))
        .with_mount(same(filter))
        .start()
        .await
        .context("the container engine can't start Envoy")?;
    Ok(Running::Container(Box::new(container)))
}

/// The addresses, once Envoy serves.
async fn find_addresses(admin_file: &Path) -> Result<Option<Addresses>> {
    let Ok(text) = std::fs::read_to_string(admin_file) else { return Ok(None) };
    let Ok(admin) = text.trim().parse::<SocketAddr>() else { return Ok(None) };
    let client = Client::new(admin);
    let Ok(ready) = client.get("admin", "/ready").send().await else { return Ok(None) };
    if ready.status != StatusCode::OK {
        return Ok(None);
    }
    let listeners = client.request(Method::GET, "admin", "/listeners?format=json").send().await?;
    let listeners = listeners.json()?;
    let (Ok(edge), Ok(edge_tls)) =
        (address_of(&listeners, "edge"), address_of(&listeners, "edge_tls"))
    else {
        return Ok(None);
    };
    Ok(Some(Addresses { edge, edge_tls, admin }))
}

/// A listener's address in the answer of the admin page.
fn address_of(listeners: &Value, name: &str) -> Result<SocketAddr> {
    let all = listeners.get("listener_statuses").and_then(Value::as_array);
    let mut all = all.into_iter().flatten();
    let found = all.find(|listener| listener.get("name").is_some_and(|it| it == name));
    let port = found.and_then(|it| it.pointer("/local_address/socket_address/port_value"));
    let port = port.and_then(Value::as_u64).with_context(|| format!("no port of `{name}`"))?;
    let port = u16::try_from(port)?;
    ensure!(port != 0, "`{name}` has no port yet");
    Ok(SocketAddr::from(([127, 0, 0, 1], port)))
}
