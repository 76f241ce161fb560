//! A real Envoy with the real configuration, in a container or as a process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use http::Method;
use sandgate_envoy_config::{EDGE_LOG, EDGE_TEMPLATE, Edge, GatewayToken, TlsCertificate};
use serde_json::Value;
use testcontainers::core::Mount;
use testcontainers::runners::AsyncRunner as _;
use testcontainers::{ContainerAsync, GenericImage, ImageExt as _};

use crate::artifacts::{self, EnvoyProgram};
use crate::client::Client;
use crate::pki;
use crate::process::Process;
use crate::wait::until;

/// Worker threads of every Envoy: more than one, so that what workers do not share can't hide.
const WORKERS: &str = "2";

/// What to fill into the configuration, and how to change it.
pub struct EnvoySetup {
    /// The edge's values. [`Envoy::start`] sets the ports and the files.
    pub edge: Edge,
    /// The gateway's own credential.
    pub token: String,
    /// A filter to run instead of the real one.
    pub filter: Option<PathBuf>,
    /// Changes the template's text: to take a protection away and see that another one holds.
    pub change: fn(&str) -> String,
    /// Changes the text of `envoy/edge-log.yaml`.
    pub change_log: fn(&str) -> String,
}

/// A running Envoy; gone when dropped.
pub struct Envoy {
    addresses: Addresses,
    running: Running,
    // Dropped after what runs in it.
    folder: tempfile::TempDir,
}

#[derive(Clone, Copy, Debug)]
struct Addresses {
    edge: SocketAddr,
    edge_tls: SocketAddr,
    admin: SocketAddr,
}

enum Running {
    Container(Box<ContainerAsync<GenericImage>>),
    Process(Box<Process>),
}

impl Envoy {
    /// Starts it and waits until it serves.
    pub async fn start(setup: EnvoySetup) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("sandgate-e2e-envoy-").tempdir()?;
        let filter = setup.filter.map_or_else(artifacts::filter, Ok)?;
        write_token(folder.path(), &setup.token)?;
        // In this folder, because a container sees no other one.
        std::fs::write(folder.path().join("edge-log.yaml"), (setup.change_log)(EDGE_LOG))?;
        write_certificate(folder.path())?;
        let file = |name: &str| folder.path().join(name).display().to_string();
        let edge = Edge {
            // The system chooses the ports; the admin page shows them.
            port: 0,
            tls_port: 0,
            admin_port: 0,
            gateway_token_sds: file("gateway-token.yaml").into(),
            tls_sds: file("tls-certificate.yaml").into(),
            wasm: filter.clone(),
            log: file("edge-log.yaml").into(),
            ..setup.edge
        };
        let bootstrap = file("edge.yaml");
        std::fs::write(&bootstrap, edge.render_template(&(setup.change)(EDGE_TEMPLATE))?)?;
        let admin_file = file("admin-address");
        let arguments = [
            "--config-path",
            &bootstrap,
            "--admin-address-path",
            &admin_file,
            "--concurrency",
            WORKERS,
            "--disable-hot-restart",
            "--log-level",
            "warning",
            // Tests read the access log.
            "--file-flush-interval-msec",
            "50",
        ];
        let mut running = Running::start(&arguments, folder.path(), &filter).await?;
        match addresses(&admin_file, &mut running).await {
            Ok(addresses) => Ok(Self { addresses, running, folder }),
            Err(error) => Err(error.context(format!("Envoy's log:\n{}", running.output().await))),
        }
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
        let bootstrap = self.folder.path().join("edge.yaml");
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
        write_token(self.folder.path(), token)
    }

    /// Puts another certificate in the place of the edge's, as an operator does; returns it (DER).
    pub fn rotate_certificate(&self) -> Result<Vec<u8>> {
        pki::issue(&certificate_directory(self.folder.path()))
    }

    /// Where its certificate and key are: `tls.crt` and `tls.key`.
    #[must_use]
    pub fn certificate_directory(&self) -> PathBuf {
        certificate_directory(self.folder.path())
    }

    /// What it has written: access log and warnings.
    pub async fn output(&self) -> String {
        self.running.output().await
    }
}

fn certificate_directory(folder: &Path) -> PathBuf {
    folder.join("tls")
}

fn write_certificate(folder: &Path) -> Result<()> {
    let directory = certificate_directory(folder);
    std::fs::create_dir(&directory)?;
    pki::issue(&directory)?;
    std::fs::write(folder.join("tls-certificate.yaml"), TlsCertificate(directory).render()?)?;
    Ok(())
}

fn write_token(folder: &Path, token: &str) -> Result<()> {
    let next = folder.join("gateway-token.yaml.next");
    std::fs::write(&next, GatewayToken(token.to_owned()).render()?)?;
    std::fs::rename(next, folder.join("gateway-token.yaml"))?;
    Ok(())
}

impl Running {
    async fn start(arguments: &[&str], folder: &Path, filter: &Path) -> Result<Self> {
        match artifacts::envoy()? {
            EnvoyProgram::Path(path) => {
                let mut command = Command::new(path);
                command.args(arguments);
                let process = Process::start(&command, &folder.join("envoy.log"))?;
                Ok(Self::Process(Box::new(process)))
            }
            EnvoyProgram::Image { name, tag } => {
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
                Ok(Self::Container(Box::new(container)))
            }
        }
    }

    async fn output(&self) -> String {
        match self {
            Self::Process(process) => process.output(),
            Self::Container(container) => {
                let mut bytes = container.stdout_to_vec().await.unwrap_or_default();
                bytes.extend(container.stderr_to_vec().await.unwrap_or_default());
                String::from_utf8_lossy(&bytes).into_owned()
            }
        }
    }

    async fn has_ended(&mut self) -> bool {
        match self {
            Self::Process(process) => process.ended().is_some(),
            Self::Container(container) => !container.is_running().await.unwrap_or(false),
        }
    }
}

/// Waits until Envoy serves; where its listeners and its admin interface are.
async fn addresses(admin_file: &str, running: &mut Running) -> Result<Addresses> {
    until("Envoy serves", Duration::from_secs(60), async || {
        if running.has_ended().await {
            anyhow::bail!("Envoy has ended");
        }
        let Ok(text) = std::fs::read_to_string(admin_file) else { return Ok(None) };
        let Ok(admin) = text.trim().parse::<SocketAddr>() else { return Ok(None) };
        let client = Client::new(admin);
        let Ok(ready) = client.get("admin", "/ready").send().await else { return Ok(None) };
        if ready.status != http::StatusCode::OK {
            return Ok(None);
        }
        let listeners =
            client.request(Method::GET, "admin", "/listeners?format=json").send().await?;
        let listeners = listeners.json()?;
        let edge = address_of(&listeners, "edge")?;
        let edge_tls = address_of(&listeners, "edge_tls")?;
        Ok(Some(Addresses { edge, edge_tls, admin }))
    })
    .await
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
