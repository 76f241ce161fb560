//! Runs the real sidecar in the gateway, with a real Envoy.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::process::Process;
use crate::rig::Rig;
use crate::site;

/// The settings of the agent in a test.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The initial policy.
    pub policy: Value,
    /// The operator's settings. They declare the TEST-NET addresses globally routable.
    pub operator: Value,
    /// The options of another policy source than the file.
    pub source: Option<Vec<String>>,
    /// Whether the agent runs in the sandbox's namespace.
    pub shared: bool,
    /// The limit of open files of the agent and Envoy, instead of this machine's limit.
    pub files: Option<u32>,
    /// Additional options.
    pub arguments: Vec<String>,
}

impl Setup {
    /// Creates settings with an initial policy.
    #[must_use]
    pub fn new(policy: Value) -> Self {
        let operator = json!({
            "also_global": ["192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32"],
            "protected": ["192.0.2.0/30", "2001:db8:a::/64"],
        });
        Self { policy, operator, source: None, shared: false, files: None, arguments: Vec::new() }
    }

    /// Adds options.
    #[must_use]
    pub fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }
}

/// A running agent. Dropping it stops the agent, which cleans up.
pub struct Sidecar {
    /// The agent's process.
    pub process: Process,
    folder: PathBuf,
}

/// Runs a program in a mount namespace (`ip netns exec` has made it) in which Envoy and the filter are at paths that Envoy's
/// own user can reach. The tree may be in a folder that is private to its owner.
const MOUNTED: &str = r#"mount --bind "$0" "$1" && mount --bind "$2" "$3" && shift 3 && exec "$@""#;
/// The time limit of any wait. Long, because other tests may keep the machine busy.
const TIME_LIMIT: Duration = Duration::from_secs(90);

impl Sidecar {
    /// Starts the agent, and waits until it is ready.
    pub fn start(rig: &Rig, setup: &Setup) -> Result<Self> {
        let sidecar = Self::launch(rig, setup)?;
        sidecar.until_ready()?;
        Ok(sidecar)
    }

    /// Starts the agent, and does not wait.
    pub fn launch(rig: &Rig, setup: &Setup) -> Result<Self> {
        let folder = rig.folder().to_owned();
        std::fs::write(folder.join("policy.json"), setup.policy.to_string())?;
        std::fs::write(folder.join("operator.json"), setup.operator.to_string())?;
        // The report files of an agent that was killed.
        for file in ["ready", "status"] {
            drop(std::fs::remove_file(folder.join(file)));
        }
        let path = |name: &str| folder.join(name).display().to_string();
        let program = built("debug/sandgate-sidecar", "cargo build --package sandgate-sidecar")?;
        let namespace = if setup.shared { &rig.sandbox } else { &rig.gateway };
        let (envoy, filter) = (rig.mount_point("envoy")?, rig.mount_point("filter")?);
        let mut command = namespace.command("sh");
        command.args(["-c", MOUNTED]).arg(find_envoy()?).arg(&envoy);
        command.arg(Form::of_this_run()?.filter()?).arg(&filter);
        if let Some(files) = setup.files {
            // A process with this capability could raise the limit.
            command.args(["setpriv", "--bounding-set", "-sys_resource", "prlimit"]);
            command.arg(format!("--nofile={files}:{files}"));
        }
        command.arg(program);
        match setup.shared {
            true => command.args(["--mode", "shared"]),
            false => command.args(["--sandbox-interface", "sandbox0"]),
        };
        match &setup.source {
            Some(source) => command.args(source),
            None => command.args(["--policy-file", &path("policy.json")]),
        };
        command.args(["--operator-file", &path("operator.json")]);
        command.args(["--resolver", &site::RESOLVER.to_string()]);
        command.arg("--envoy").arg(envoy);
        command.args(["--filter", &filter.display().to_string()]);
        command.args(["--run-dir", &rig.run_dir().display().to_string()]);
        command.args(["--ready-file", &path("ready"), "--status-file", &path("status")]);
        command.args(&setup.arguments);
        let process = Process::start(&command, &folder, "sidecar")?;
        Ok(Self { process, folder })
    }

    /// Waits until the agent enforces a policy, and returns the policy generation.
    pub fn until_ready(&self) -> Result<u64> {
        self.until("ready", |status| {
            (status["ready"] == true).then(|| status["generation"].as_u64())?
        })
    }

    /// Waits until `found` returns a value for the agent's status. `what` describes the value in the error.
    pub fn until<T>(&self, what: &str, found: impl Fn(&Value) -> Option<T>) -> Result<T> {
        let begun = Instant::now();
        while begun.elapsed() < TIME_LIMIT {
            if let Some(found) = self.status().as_ref().and_then(&found) {
                return Ok(found);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        bail!(
            "the sidecar is not {what} within {TIME_LIMIT:?}; its output:\n{}",
            self.process.output()
        )
    }

    /// The agent's status.
    #[must_use]
    pub fn status(&self) -> Option<Value> {
        let text = std::fs::read_to_string(self.folder.join("status")).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Whether the ready file exists.
    #[must_use]
    pub fn says_ready(&self) -> bool {
        self.folder.join("ready").exists()
    }

    /// Replaces the policy, and waits until it is enforced.
    pub fn set(&self, policy: &Value) -> Result<()> {
        let before =
            self.status().and_then(|status| status.get("generation")?.as_u64()).unwrap_or(0);
        self.write(&policy.to_string())?;
        self.until("at another generation", |status| {
            let is_new = status["generation"].as_u64()? > before && status["ready"] == true;
            is_new.then_some(())
        })
    }

    /// Replaces the content of the policy file, and does not wait.
    pub fn write(&self, policy: &str) -> Result<()> {
        let partial = self.folder.join("policy.part");
        std::fs::write(&partial, policy)?;
        Ok(std::fs::rename(partial, self.folder.join("policy.json"))?)
    }

    /// The process id of the agent's Envoy.
    pub fn envoy_pid(&self) -> Result<i32> {
        let children = format!("/proc/{0}/task/{0}/children", self.process.pid());
        let text = std::fs::read_to_string(&children)?;
        for pid in text.split_whitespace() {
            if std::fs::read_to_string(format!("/proc/{pid}/comm"))?.trim() == "envoy" {
                return Ok(pid.parse()?);
            }
        }
        bail!("the sidecar has no Envoy among its children: `{text}`")
    }

    /// Sends SIGTERM, and waits until the agent has exited.
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        self.process.terminate()
    }

    /// Sends SIGKILL. The agent can't clean up.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.process.kill()
    }
}

/// The resolver of sandboxes. Any address works, because the gateway redirects all DNS.
pub const RESOLVER: IpAddr = site::RESOLVER;

/// The repository's root.
pub(crate) fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here)
}

/// The form of the egress filter.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Form {
    Wasm,
    Native,
}

impl Form {
    /// The form that `SANDGATE_FILTERS` names. The agent reads the variable, too.
    pub fn of_this_run() -> Result<Self> {
        match std::env::var("SANDGATE_FILTERS").unwrap_or_default().as_str() {
            "" | "wasm" => Ok(Self::Wasm),
            "native" => Ok(Self::Native),
            other => bail!("SANDGATE_FILTERS is `{other}`; it may be `wasm` or `native`"),
        }
    }

    /// The name of the form.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Wasm => "wasm",
            Self::Native => "native",
        }
    }

    /// The filter in this form.
    pub fn filter(self) -> Result<PathBuf> {
        match self {
            Self::Wasm => built("filters/sandgate_egress.wasm", "scripts/wasm"),
            Self::Native => built("filters/libsandgate_native.so", "cargo xtask native"),
        }
    }
}

/// Something under `target/`, built before; `how` says how, for the error.
pub fn built(path: &str, how: &str) -> Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root().join("target"), |folder| root().join(folder));
    let path = match path.strip_prefix("filters/") {
        Some(name) => root().join("target/filters").join(name),
        None => target.join(path),
    };
    ensure!(path.is_file(), "`{}` is missing; build it with: {how}", path.display());
    Ok(path)
}

/// The Envoy of this test run: `SANDGATE_ENVOY`, which `make test` sets, or the one that `scripts/envoy` finds.
pub fn find_envoy() -> Result<PathBuf> {
    if let Some(program) = std::env::var_os("SANDGATE_ENVOY") {
        return Ok(program.into());
    }
    let script = root().join("scripts/envoy");
    let output =
        Command::new(&script).output().with_context(|| format!("`{}`", script.display()))?;
    ensure!(output.status.success(), "scripts/envoy: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().into())
}
