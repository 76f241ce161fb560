//! A real Envoy with the real configuration, in a container or as a process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use http::{Method, StatusCode};
use sandgate_envoy_config::{EDGE_LOG, EDGE_TEMPLATE, Edge, GatewayToken, TlsCertificate};
use serde_json::Value;
#[cfg(feature = "container")]
use testcontainers::{ContainerAsync, GenericImage};

use crate::artifacts::EnvoyProgram;
use crate::client::Client;
use crate::files::write_private;
use crate::process::Process;
#[cfg(feature = "container")]
use crate::wait::until;

/// How Envoy is started.
pub struct EnvoySetup {
    /// The folder of the configuration, the secrets, and the log.
    pub folder: PathBuf,
    /// The program or the image.
    pub program: EnvoyProgram,
    /// The edge's values. [`Envoy::start`] sets the files except the filter. The system chooses ports that are 0.
    pub edge: Edge,
    /// The gateway's own credential.
    pub token: String,
    /// The folder that contains `tls.crt` and `tls.key`.
    pub certificate: PathBuf,
    /// The number of worker threads.
    pub workers: u32,
    /// Changes the text of the template, for example to remove a protection and see that another one holds.
    pub change: fn(&str) -> String,
    /// Changes the text of `envoy/edge-log.yaml`.
    pub change_log: fn(&str) -> String,
    /// How long Envoy may take to stop; see [`Process::with_patience`].
    pub patience: Duration,
}

/// A running Envoy, which is stopped when this value is dropped.
pub struct Envoy {
    addresses: Addresses,
    running: Running,
    folder: PathBuf,
}

#[derive(Clone, Copy, Debug)]
struct Addresses {
    edge: SocketAddr,
    edge_tls: SocketAddr,
    admin: SocketAddr,
}

enum Running {
    #[cfg(feature = "container")]
    Container(Box<ContainerAsync<GenericImage>>),
    Process(Box<Process>),
}

impl Envoy {
    /// Starts it, and waits until it serves.
    pub async fn start(setup: EnvoySetup) -> Result<Self> {
        let folder = setup.folder;
        write_token(&folder, &setup.token)?;
        let file = |name: &str| folder.join(name);
        let edge = Edge {
            gateway_token_sds: file("gateway-token.yaml"),
            tls_sds: file("tls-certificate.yaml"),
            // In this folder, because a container sees no other one.
            log: file("edge-log.yaml"),
            ..setup.edge
        };
        write_private(&edge.log, &(setup.change_log)(EDGE_LOG))?;
        write_private(&edge.tls_sds, &TlsCertificate(setup.certificate).render()?)?;
        let bootstrap = file("edge.yaml");
        write_private(&bootstrap, &edge.render_template(&(setup.change)(EDGE_TEMPLATE))?)?;
        let admin_file = file("admin-address");
        // One of an earlier start.
        drop(std::fs::remove_file(&admin_file));
        let arguments = [
            "--config-path",
            &bootstrap.display().to_string(),
            "--admin-address-path",
            &admin_file.display().to_string(),
            "--concurrency",
            &setup.workers.to_string(),
            "--disable-hot-restart",
            "--log-level",
            "warning",
            // Tests read the access log.
            "--file-flush-interval-msec",
            "50",
        ];
        let mut running =
            Running::start(&setup.program, &arguments, &folder, &edge.wasm, setup.patience).await?;
        let addresses = running.until_ready(&admin_file).await?;
        Ok(Self { addresses, running, folder })
    }

    /// Where clients connect.
    #[must_use]
    pub fn edge(&self) -> Client {
        Client::new(self.addresses.edge)
    }

    /// Where clients connect by TLS. They ask for a host that every certificate is for.
    #[must_use]
    pub fn edge_tls(&self) -> Client {
        Client::new(self.addresses.edge_tls).tls("any.sandbox.localhost")
    }

    /// The admin interface.
    #[must_use]
    pub fn admin(&self) -> Client {
        Client::new(self.addresses.admin)
    }

    /// The admin interface's address.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.addresses.admin
    }

    /// The sum of all counters and gauges whose name matches a regular expression.
    pub async fn stat(&self, pattern: &str) -> Result<u64> {
        let path = format!("/stats?format=json&filter={pattern}");
        let stats = self.admin().get("admin", &path).send().await?.json()?;
        let all = stats.get("stats").and_then(Value::as_array).context("stats without a list")?;
        Ok(all.iter().filter_map(|stat| stat.get("value").and_then(Value::as_u64)).sum())
    }

    /// Its resident memory in bytes, as the kernel counts it.
    pub fn resident_bytes(&self) -> Result<u64> {
        // A container's processes are this machine's processes, too.
        let bootstrap = self.folder.join("edge.yaml");
        let bootstrap = bootstrap.display().to_string();
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let Ok(command) = std::fs::read(entry.path().join("cmdline")) else { continue };
            let mut words = command.split(|byte| *byte == 0);
            let is_envoy = words.next().is_some_and(|program| program.ends_with(b"envoy"));
            if is_envoy && words.any(|word| word == bootstrap.as_bytes()) {
                let status = std::fs::read_to_string(entry.path().join("status"))?;
                let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
                let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
                return Ok(kib.context("no VmRSS in /proc")?.parse::<u64>()? * 1024);
            }
        }
        anyhow::bail!(
            "no process has `{bootstrap}` on its command line; can these tests see /proc?"
        )
    }

    /// Puts another token in the place of the gateway's own, as an operator does: by a rename.
    pub fn rotate_token(&self, token: &str) -> Result<()> {
        write_token(&self.folder, token)
    }

    /// Its process id, if it is not in a container.
    #[must_use]
    pub fn process_id(&self) -> Option<u32> {
        match &self.running {
            Running::Process(process) => Some(process.id()),
            #[cfg(feature = "container")]
            Running::Container(_) => None,
        }
    }

    /// Fails if it has ended.
    pub fn require_running(&mut self) -> Result<()> {
        match &mut self.running {
            Running::Process(process) => process.require_running(),
            #[cfg(feature = "container")]
            Running::Container(_) => Ok(()),
        }
    }

    /// What it has written: access log and warnings.
    pub async fn output(&self) -> String {
        self.running.output().await
    }
}

fn write_token(folder: &Path, token: &str) -> Result<()> {
    write_private(&folder.join("gateway-token.yaml"), &GatewayToken(token.to_owned()).render()?)
}

impl Running {
    #[cfg_attr(
        not(feature = "container"),
        expect(
            clippy::unused_async,
            unused_variables,
            reason = "containers start slowly and need more folders"
        )
    )]
    async fn start(
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

    async fn output(&self) -> String {
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

    /// Waits until Envoy serves; returns the addresses of its listeners and its admin interface.
    async fn until_ready(&mut self, admin_file: &Path) -> Result<Addresses> {
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
