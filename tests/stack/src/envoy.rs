//! A real Envoy with the real configuration, in a container or as a process.

mod running;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use sandgate_envoy_config::{EDGE_LOG, Edge, GatewayToken, TlsCertificate};
use serde_json::Value;

use crate::artifacts::EnvoyProgram;
use crate::client::Client;
use crate::files::write_private;

use running::{Addresses, Running};

/// The settings of an Envoy.
pub struct EnvoySetup {
    /// The folder of the configuration, the secrets, and the log.
    pub folder: PathBuf,
    /// The program or the image.
    pub program: EnvoyProgram,
    /// The file of the filter, which a container must be able to read.
    pub filter: PathBuf,
    pub configuration: Configuration,
    /// The number of worker threads.
    pub workers: u32,
    /// The time that Envoy may take to stop; see [`crate::Process::with_patience`].
    pub patience: Duration,
}

/// The source of an Envoy's configuration.
pub enum Configuration {
    /// Files in Envoy's folder.
    Files(Box<Files>),
    /// An xDS server, which this bootstrap names.
    Xds(String),
}

/// What the files contain.
pub struct Files {
    /// The edge's values. [`Envoy::start`] sets the files except the filter. The system chooses ports that are 0.
    pub edge: Edge,
    /// The gateway's own credential.
    pub token: String,
    /// The folder that contains `tls.crt` and `tls.key`.
    pub certificate: PathBuf,
    /// Changes the text of the template, for example to remove a protection and see that another one holds.
    /// `$FOLDER` then stands for the folder of Envoy's files.
    pub change: fn(&str) -> String,
    /// Changes the text of `envoy/edge-log.yaml`.
    pub change_log: fn(&str) -> String,
}

impl Files {
    /// Writes all files except the bootstrap, which is returned.
    fn write(self, folder: &Path) -> Result<String> {
        let file = |name: &str| folder.join(name);
        let edge = Edge {
            gateway_token_sds: file("gateway-token.yaml"),
            tls_sds: file("tls-certificate.yaml"),
            // In this folder, because a container sees no other one.
            log: file("edge-log.yaml"),
            ..self.edge
        };
        write_token(folder, &self.token)?;
        write_private(&edge.log, &(self.change_log)(EDGE_LOG))?;
        write_private(&edge.tls_sds, &TlsCertificate(self.certificate).render()?)?;
        // For a template that gets the filter from a file: Envoy starts only if the file exists.
        write_private(&file("filter.yaml"), "resources: []\n")?;
        let template = (self.change)(&edge.template()?);
        let template = template.replace("$FOLDER", &folder.display().to_string());
        Ok(edge.render_template(&template)?)
    }
}

/// A running Envoy, which is stopped when this value is dropped.
pub struct Envoy {
    addresses: Addresses,
    running: Running,
    folder: PathBuf,
}

impl Envoy {
    /// Starts Envoy, and waits until it serves.
    pub async fn start(setup: EnvoySetup) -> Result<Self> {
        let folder = setup.folder;
        let bootstrap = folder.join("edge.yaml");
        let text = match setup.configuration {
            Configuration::Files(files) => files.write(&folder)?,
            Configuration::Xds(bootstrap) => bootstrap,
        };
        write_private(&bootstrap, &text)?;
        let admin_file = folder.join("admin-address");
        // The file of an earlier start.
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
            // Tests read the access log while Envoy runs.
            "--file-flush-interval-msec",
            "50",
        ];
        let mut running =
            Running::start(&setup.program, &arguments, &folder, &setup.filter, setup.patience)
                .await?;
        let addresses = running.until_ready(&admin_file).await?;
        Ok(Self { addresses, running, folder })
    }

    /// A client of the plain-text port.
    #[must_use]
    pub fn edge(&self) -> Client {
        Client::new(self.addresses.edge)
    }

    /// A client of the TLS port. Its server name is in the certificate of each Envoy.
    #[must_use]
    pub fn edge_tls(&self) -> Client {
        Client::new(self.addresses.edge_tls).tls("any.sandbox.localhost")
    }

    /// A client of the admin interface.
    #[must_use]
    pub fn admin(&self) -> Client {
        Client::new(self.addresses.admin)
    }

    /// The address of the admin interface.
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

    /// The resident memory of the process, in bytes.
    pub fn resident_bytes(&self) -> Result<u64> {
        // The processes of containers are visible in /proc, too.
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

    /// Replaces the file of the gateway token by a rename, as an operator does.
    pub fn rotate_token(&self, token: &str) -> Result<()> {
        write_token(&self.folder, token)
    }

    /// The process id, if Envoy is not in a container.
    #[must_use]
    pub fn process_id(&self) -> Option<u32> {
        self.running.process_id()
    }

    /// Fails if Envoy has ended.
    pub fn require_running(&mut self) -> Result<()> {
        self.running.require_running()
    }

    /// The access log and the warnings.
    pub async fn output(&self) -> String {
        self.running.output().await
    }
}

fn write_token(folder: &Path, token: &str) -> Result<()> {
    write_private(&folder.join("gateway-token.yaml"), &GatewayToken(token.to_owned()).render()?)
}
