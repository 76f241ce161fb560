//! The real control plane, as an operator starts it, and its command line.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::artifacts::program;
use crate::client::{Answer, Call, Client};
use crate::network::Network;
use crate::platform::Platform;
use crate::process::Process;
use crate::wait::until;

/// The first domain of every test's edge.
pub const DOMAIN: &str = "sandbox.localhost";

/// Where sandboxes live.
pub enum Runtime {
    /// Processes of the control plane.
    Local,
    /// An operator's platform.
    Webhook(Platform),
}

/// A control plane; gone when dropped, with the sandboxes that it started.
pub struct ControlPlane {
    folder: PathBuf,
    network: Arc<Network>,
    runtime: Runtime,
    drain_seconds: u32,
    process: Option<Process>,
    api: SocketAddr,
    gateway: SocketAddr,
}

/// Who owns sandboxes, and every kind of credential for them.
#[derive(Clone, Debug)]
pub struct Owner {
    /// Organization id.
    pub organization: String,
    /// Project id.
    pub project: String,
    /// An API key of the project.
    pub api_key: String,
    /// A member's personal access token.
    pub pat: String,
    /// A member's session.
    pub session: String,
}

impl ControlPlane {
    /// The gateway's own credential; the second one of [`Self::NEXT_TOKEN`].
    pub const TOKEN: &str = "e2e-gateway-token-0123456789abcdef";
    /// Valid at the same time, as while a token is rotated.
    pub const NEXT_TOKEN: &str = "e2e-gateway-token-fedcba9876543210";

    /// Starts it on ports that the system chooses.
    pub async fn start(
        folder: &Path,
        network: Arc<Network>,
        runtime: Runtime,
        drain_seconds: u32,
    ) -> Result<Self> {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let folder = folder.to_owned();
        std::fs::write(
            folder.join("gateway-tokens"),
            format!("{}\n{}\n", Self::TOKEN, Self::NEXT_TOKEN),
        )?;
        std::fs::write(folder.join("webhook-secret"), "e2e-webhook-secret-0123456789\n")?;
        let mut this = Self {
            folder,
            network,
            runtime,
            drain_seconds,
            process: None,
            api: nowhere,
            gateway: nowhere,
        };
        this.run().await?;
        Ok(this)
    }

    /// Starts it (again), on the ports that it had.
    pub async fn run(&mut self) -> Result<()> {
        let log = self.folder.join("control-plane.log");
        let seen = std::fs::read_to_string(&log).map_or(0, |text| text.len());
        let mut command = Command::new(program("sandgate")?);
        command.args(["serve", "--domain", DOMAIN, "--proxy-url", "http://localhost:9443"]);
        command.arg("--data-dir").arg(self.data());
        command.args(["--api-listen", &self.api.to_string()]);
        command.args(["--gateway-listen", &self.gateway.to_string()]);
        command.args(["--drain-seconds", &self.drain_seconds.to_string()]);
        command.arg("--gateway-token-file").arg(self.folder.join("gateway-tokens"));
        match &self.runtime {
            Runtime::Local => {
                command.args(["--runtime", "local", "--local-cidr", &self.network.cidr()]);
                command.arg("--local-program").arg(program("sandgate-demo")?);
            }
            Runtime::Webhook(platform) => {
                command.args(["--runtime", "webhook", "--webhook-url", &platform.url()]);
                command.arg("--webhook-secret-file").arg(self.folder.join("webhook-secret"));
                command.args(["--sandbox-cidr", &self.network.cidr()]);
            }
        }
        let mut process = Process::start(&command, &log)?;
        let ready = until("the control plane is ready", Duration::from_secs(30), async || {
            if let Some(status) = process.ended() {
                bail!("it ended with {status}:\n{}", process.output());
            }
            let output = process.output();
            let line = output.get(seen..).unwrap_or_default();
            let line = line.lines().find(|line| line.starts_with("ready: ")).map(str::to_owned);
            Ok(line)
        })
        .await?;
        // "ready: api http://127.0.0.1:8900 gateway http://127.0.0.1:8901"
        let mut addresses = ready.split(' ').filter_map(|word| word.strip_prefix("http://"));
        self.api = addresses.next().context("no API address in the ready line")?.parse()?;
        self.gateway = addresses.next().context("no gateway address in the ready line")?.parse()?;
        self.process = Some(process);
        Ok(())
    }

    /// Which gateway tokens are valid from now on, as soon as it has read its file again.
    pub fn set_tokens(&self, tokens: &[&str]) -> Result<()> {
        Ok(std::fs::write(self.folder.join("gateway-tokens"), tokens.join("\n"))?)
    }

    /// Asks it to stop, by SIGTERM.
    pub fn terminate(&self) -> Result<()> {
        self.process.as_ref().context("the control plane does not run")?.terminate()
    }

    /// Its exit status, once it has ended.
    pub fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.process.as_mut().and_then(Process::ended)
    }

    /// Ends it with SIGKILL.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// The public API.
    #[must_use]
    pub fn api(&self) -> Client {
        Client::new(self.api)
    }

    /// The gateway API.
    #[must_use]
    pub fn gateway(&self) -> Client {
        Client::new(self.gateway)
    }

    /// The operator's platform, where sandboxes live on one.
    pub fn platform(&self) -> Result<&Platform> {
        match &self.runtime {
            Runtime::Webhook(platform) => Ok(platform),
            Runtime::Local => {
                bail!("this control plane has no platform: set `webhook` in the setup")
            }
        }
    }

    /// What it has written.
    #[must_use]
    pub fn output(&self) -> String {
        std::fs::read_to_string(self.folder.join("control-plane.log")).unwrap_or_default()
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Runs a management command; what it prints.
    pub fn manage(&self, arguments: &[&str]) -> Result<Value> {
        let output = Command::new(program("sandgate")?)
            .args(arguments)
            .arg("--data-dir")
            .arg(self.data())
            .arg("--json")
            .output()?;
        let what = arguments.join(" ");
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`sandgate {what}` failed: {error}");
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("`sandgate {what}` did not print one JSON object"))
    }

    /// A new organization with one project, a member, and credentials for it.
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

impl Owner {
    /// A call to the public API, as this owner.
    pub fn call(&self, api: Client, method: Method, path: &str) -> Call {
        api.request(method, "api", path).bearer(&self.api_key)
    }

    /// Shows the personal access token of a member, with the context that it needs.
    pub fn with_pat(&self, call: Call) -> Call {
        self.with_context(call.bearer(&self.pat))
    }

    /// Names organization and project.
    pub fn with_context(&self, call: Call) -> Call {
        call.header("x-forwarded-organization-id", &self.organization)
            .header("x-forwarded-project-id", &self.project)
    }

    /// Creates a sandbox and waits until it runs.
    pub async fn create(&self, api: Client, request: Value) -> Result<Sandbox> {
        let call = self.call(api, Method::POST, "/sandboxes").json(&request);
        let made = accepted(&call.send().await?)?;
        let id = made.get("sandbox_id").or_else(|| made.get("id")).and_then(Value::as_str);
        let name = request.get("name").and_then(Value::as_str).map(str::to_owned);
        let sandbox = Sandbox { id: id.context("no sandbox id")?.to_owned(), name };
        self.wait_for(api, &sandbox, "running").await?;
        Ok(sandbox)
    }

    /// Changes ports, flag and the like.
    pub async fn patch(&self, api: Client, sandbox: &Sandbox, change: Value) -> Result<Value> {
        let path = format!("/sandboxes/{}", sandbox.id);
        self.call(api, Method::PATCH, &path).json(&change).send().await?.ok()
    }

    /// Exposes ports, public or not; an empty list unexposes all.
    pub async fn expose(
        &self,
        api: Client,
        sandbox: &Sandbox,
        ports: &[u16],
        public: bool,
    ) -> Result<()> {
        let change = json!({ "exposed_ports": ports, "allow_unauthenticated_access": public });
        self.patch(api, sandbox, change).await.map(drop)
    }

    /// Suspends it, and waits until it is.
    pub async fn suspend(&self, api: Client, sandbox: &Sandbox) -> Result<()> {
        let path = format!("/sandboxes/{}/suspend", sandbox.id);
        accepted(&self.call(api, Method::POST, &path).send().await?)?;
        self.wait_for(api, sandbox, "suspended").await
    }

    /// Deletes it.
    pub async fn delete(&self, api: Client, sandbox: &Sandbox) -> Result<()> {
        let path = format!("/sandboxes/{}", sandbox.id);
        let answer = self.call(api, Method::DELETE, &path).send().await?;
        ensure!(answer.status.is_success(), "not deleted: {} {}", answer.status, answer.text());
        Ok(())
    }

    /// Waits for a status.
    pub async fn wait_for(&self, api: Client, sandbox: &Sandbox, status: &str) -> Result<()> {
        let path = format!("/sandboxes/{}", sandbox.id);
        until(&format!("{} is {status}", sandbox.id), Duration::from_secs(30), async || {
            let info = self.call(api, Method::GET, &path).send().await?.ok()?;
            let now = info.get("status").and_then(Value::as_str);
            Ok((now == Some(status)).then_some(()))
        })
        .await
    }
}

fn accepted(answer: &Answer) -> Result<Value> {
    let good = answer.status.is_success();
    ensure!(good, "the control plane refused: {} {}", answer.status, answer.text());
    if answer.status == StatusCode::NO_CONTENT || answer.body.is_empty() {
        return Ok(Value::Null);
    }
    answer.json()
}

/// A sandbox, by its names.
#[derive(Clone, Debug)]
pub struct Sandbox {
    /// Canonical id.
    pub id: String,
    /// Name, if it has one.
    pub name: Option<String>,
}

impl Sandbox {
    /// Host of a port, by the name if there is one.
    #[must_use]
    pub fn host(&self, port: u16) -> String {
        format!("{port}-{}.{DOMAIN}", self.name.as_ref().unwrap_or(&self.id))
    }

    /// Host of the management API.
    #[must_use]
    pub fn management(&self) -> String {
        format!("{}.{DOMAIN}", self.name.as_ref().unwrap_or(&self.id))
    }
}
