//! The real control plane, as an operator starts it, and its command line.

mod runtime;
mod xds;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

pub use self::runtime::{Namespaces, Runtime};
use crate::artifacts::program;
use crate::client::Client;
use crate::files::write_private;
use crate::owner::Owner;
use crate::process::Process;
use crate::token::random_token;

/// The usual domain of the sandboxes.
pub const DOMAIN: &str = "sandbox.localhost";

/// The settings of a control plane.
#[derive(Clone, Debug)]
pub struct ControlPlaneSetup {
    /// The folder of the data, the log, and the tokens.
    pub folder: PathBuf,
    /// The address of the public API; the system chooses port 0.
    pub api: SocketAddr,
    /// The address of the gateway API; the system chooses port 0.
    pub gateway: SocketAddr,
    /// A folder with `tls.crt`, `tls.key` and `ca.crt`: both APIs use TLS, and the gateway API demands certificates.
    pub tls: Option<PathBuf>,
    /// The tokens that the gateway API accepts: one, or two.
    pub gateway_tokens: Vec<String>,
    /// The domain of the sandboxes.
    pub domain: String,
    /// The URL of the edge.
    pub proxy_url: String,
    /// `--drain-seconds`.
    pub drain_seconds: u32,
    /// Whether sidecars enforce network policies.
    pub enforces_egress: bool,
    /// Whether owners must confirm that a private port becomes public.
    pub confirms_public_ports: bool,
    /// Where sandboxes run.
    pub runtime: Runtime,
    /// The time that the control plane may take to stop; see [`Process::with_patience`].
    pub patience: Duration,
    /// What edges get by xDS; without it, there is no xDS server.
    pub desired_state: Option<Value>,
    /// The connection string of a PostgreSQL database; without it, the store is a SQLite file in `folder`.
    pub database: Option<String>,
}

/// A control plane, which is stopped when this value is dropped, with the sandboxes that it started.
pub struct ControlPlane {
    setup: ControlPlaneSetup,
    process: Option<Process>,
    /// The address of the xDS server.
    xds: Option<SocketAddr>,
}

impl ControlPlane {
    /// Starts the control plane, and waits until it is ready.
    pub async fn start(setup: ControlPlaneSetup) -> Result<Self> {
        let mut this = Self { setup, process: None, xds: None };
        this.set_tokens(&this.setup.gateway_tokens)?;
        if let Some(state) = &this.setup.desired_state {
            this.set_desired_state(state)?;
            write_private(&this.xds_key_file(), &format!("{}\n", random_token()?))?;
        }
        if let Runtime::Webhook { secret, .. } = &this.setup.runtime {
            write_private(&this.webhook_secret_file(), &format!("{secret}\n"))?;
        }
        this.run().await?;
        Ok(this)
    }

    /// Starts the control plane again with the same ports and data.
    pub async fn run(&mut self) -> Result<()> {
        let setup = &self.setup;
        let log = self.log();
        let seen = std::fs::read_to_string(&log).map_or(0, |text| text.len());
        let mut command = Command::new(program("sandgate")?);
        command.args(["serve", "--domain", &setup.domain, "--proxy-url", &setup.proxy_url]);
        self.locate_store(&mut command);
        command.args(["--api-listen", &setup.api.to_string()]);
        command.args(["--gateway-listen", &setup.gateway.to_string()]);
        if let Some(folder) = &setup.tls {
            command.arg("--api-tls-dir").arg(folder).arg("--gateway-tls-dir").arg(folder);
            command.arg("--gateway-client-ca").arg(folder.join("ca.crt"));
        }
        command.args(["--drain-seconds", &setup.drain_seconds.to_string()]);
        command.args(["--egress", if setup.enforces_egress { "enforced" } else { "none" }]);
        if setup.confirms_public_ports {
            command.args(["--public-ports", "confirm"]);
        }
        command.arg("--gateway-token-file").arg(self.gateway_token_file());
        if setup.desired_state.is_some() {
            let address = self.xds.unwrap_or((Ipv4Addr::LOCALHOST, 0).into());
            command.args(["--xds-listen", &address.to_string()]);
            command.arg("--xds-state").arg(self.desired_state_file());
            command.arg("--xds-key-file").arg(self.xds_key_file());
        }
        setup.runtime.add_options(&mut command, &self.webhook_secret_file())?;
        let mut process =
            Process::start("the control plane", &command, &log)?.with_patience(setup.patience);
        let ready = process
            .until("was not ready", Duration::from_secs(30), async |process| {
                let output = process.output();
                let line = output.get(seen..).unwrap_or_default();
                Ok(line.lines().find(|line| line.starts_with("ready: ")).map(str::to_owned))
            })
            .await?;
        // "ready: api http://127.0.0.1:8900 gateway http://127.0.0.1:8901"
        let mut addresses = ready.split(' ').filter_map(|word| Some(word.split_once("://")?.1));
        self.setup.api = addresses.next().context("no API address in the ready line")?.parse()?;
        self.setup.gateway =
            addresses.next().context("no gateway address in the ready line")?.parse()?;
        let xds = ready.split_once(" xds ").map(|(_, address)| address.parse()).transpose()?;
        self.xds = xds;
        self.process = Some(process);
        Ok(())
    }

    /// Replaces the gateway tokens. The control plane reads the file again soon.
    pub fn set_tokens(&self, tokens: &[impl AsRef<str>]) -> Result<()> {
        let lines: String = tokens.iter().map(|token| format!("{}\n", token.as_ref())).collect();
        write_private(&self.gateway_token_file(), &lines)
    }

    /// The file with the gateway tokens.
    #[must_use]
    pub fn gateway_token_file(&self) -> PathBuf {
        self.setup.folder.join("gateway-token")
    }

    fn webhook_secret_file(&self) -> PathBuf {
        self.setup.folder.join("webhook-secret")
    }

    /// Fails if the control plane has ended.
    pub fn require_running(&mut self) -> Result<()> {
        self.process.as_mut().context("the control plane was stopped")?.require_running()
    }

    /// The memory that it uses.
    pub fn resident_kib(&self) -> Result<u64> {
        let id = self.process.as_ref().context("the control plane does not run")?.id();
        let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        Ok(number.context("no VmRSS")?.parse()?)
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) -> Result<()> {
        self.process.as_ref().context("the control plane does not run")?.terminate()
    }

    /// Lets calls to the control plane hang until [`Self::go_on`].
    pub fn pause(&self) -> Result<()> {
        self.process.as_ref().context("the control plane does not run")?.pause()
    }

    /// Ends a pause.
    pub fn go_on(&self) -> Result<()> {
        self.process.as_ref().context("the control plane does not run")?.go_on()
    }

    /// The exit status, if the control plane has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.as_mut().and_then(Process::ended)
    }

    /// Sends SIGKILL.
    pub fn crash(&self) -> Result<()> {
        self.process.as_ref().context("the control plane does not run")?.crash()
    }

    /// Sends SIGKILL, and waits until the control plane has ended.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// The public API.
    #[must_use]
    pub fn api(&self) -> Client {
        self.client(self.setup.api)
    }

    fn client(&self, address: SocketAddr) -> Client {
        let client = Client::new(address);
        if self.setup.tls.is_some() { client.tls(DOMAIN) } else { client }
    }

    /// The gateway API.
    #[must_use]
    pub fn gateway(&self) -> Client {
        self.client(self.setup.gateway)
    }

    /// The text in the log.
    #[must_use]
    pub fn output(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// The file of the log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.setup.folder.join("control-plane.log")
    }

    /// Tells a command which store to use.
    fn locate_store(&self, command: &mut Command) {
        match &self.setup.database {
            Some(url) => command.env("SANDGATE_DATABASE", url),
            None => command.arg("--data-dir").arg(self.setup.folder.join("data")),
        };
    }

    /// Runs a management command; returns its output.
    pub fn manage(&self, arguments: &[&str]) -> Result<Value> {
        let mut command = Command::new(program("sandgate")?);
        self.locate_store(command.args(arguments).arg("--json"));
        let output = command.output()?;
        let what = arguments.join(" ");
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`sandgate {what}` failed: {error}");
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("`sandgate {what}` did not print one JSON object"))
    }

    /// Creates an organization with one project, a member, and credentials.
    pub fn new_owner(&self, name: &str) -> Result<Owner> {
        let organization = self.made(&["orgs", "create", name], "id")?;
        let project =
            self.made(&["projects", "create", name, "--organization", &organization], "id")?;
        let user = format!("{name}@example.com");
        self.manage(&["members", "add", "--user", &user, "--project", &project])?;
        let secret = |kind: &str| {
            self.made(
                &["keys", "create", "--kind", kind, "--user", &user, "--expires-in", "1d"],
                "secret",
            )
        };
        Ok(Owner {
            api_key: self.made(&["keys", "create", "--project", &project], "secret")?,
            pat: secret("pat")?,
            session: secret("session")?,
            organization,
            project,
        })
    }

    fn made(&self, arguments: &[&str], field: &str) -> Result<String> {
        let made = self.manage(arguments)?;
        let value = made.get(field).and_then(Value::as_str);
        Ok(value.with_context(|| format!("no `{field}` in {made}"))?.to_owned())
    }
}
