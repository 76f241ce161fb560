//! Sandbox and sidecar as two containers, as a platform that runs containers has them.
//!
//! The engine gives them no network: their namespaces are the rig's sandbox and gateway, and only the rig's
//! links lead out of them. The sandbox has no capability; the sidecar has what every container has, `NET_ADMIN`, and
//! a writable /proc/sys.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;
use testcontainers::core::{ExecCommand, Mount};
use testcontainers::runners::SyncRunner as _;
use testcontainers::{Container, GenericImage, ImageExt as _};

use crate::netns::output;
use crate::rig::Rig;
use crate::sidecar::{Form, Setup, built, root};
use crate::site;

/// Both containers, and the rig around them.
pub struct Containers {
    /// The network that joins them to each other and to the internet.
    pub rig: Rig,
    sandbox: Container<GenericImage>,
    sidecar: Container<GenericImage>,
    // Dropped after what uses it.
    folder: TempDir,
}

/// Why no container can be started on this machine, if none can.
#[must_use]
pub fn obstacle() -> Option<String> {
    let asked = output(Command::new("docker").args(["version", "--format", "{{.Server}}"]));
    let error = asked.err()?.to_string();
    let why = error.lines().last().unwrap_or_default();
    Some(format!("no container engine answers `docker version`: {why}"))
}

/// Where the folder is in the sidecar.
const INSIDE: &str = "/sidecar";
/// Waits until the gateway has its links, as a sidecar of a platform does, and becomes the sidecar.
const WHEN_WIRED: &str = r#"until [ -e "$0" ]; do sleep 0.02; done; exec "$@""#;
/// Generous: a machine that is busy with other tests is slow.
const LIVENESS: Duration = Duration::from_secs(90);

impl Containers {
    /// Starts both, and waits until the sidecar is ready.
    pub fn start(setup: &Setup) -> Result<Self> {
        let program = built("debug/sandgate-sidecar", "cargo build --package sandgate-sidecar")?;
        let images = Images::make(&program)?;
        let folder = tempfile::tempdir()?;
        let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text);
        put("policy.json", &setup.policy.to_string())?;
        put("operator.json", &setup.operator.to_string())?;
        put("resolv.conf", &format!("nameserver {}\n", site::RESOLVER))?;

        let resolver = folder.path().join("resolv.conf");
        let sandbox = images
            .sandbox
            .with_entrypoint("sleep")
            .with_cmd(["infinity"])
            .with_network("none")
            .with_cap_drop("ALL")
            .with_mount(bind(&resolver, "/etc/resolv.conf"))
            .start()
            .context("the sandbox's container does not start")?;
        let inside = |name: &str| format!("{INSIDE}/{name}");
        let mut command = vec!["-c".to_owned(), WHEN_WIRED.to_owned(), inside("wired")];
        command.extend(images.entrypoint);
        command.extend(["--sandbox-interface", "sandbox0"].map(str::to_owned));
        for (option, file) in [
            ("--policy-file", "policy.json"),
            ("--operator-file", "operator.json"),
            ("--ready-file", "ready"),
        ] {
            command.extend([option.to_owned(), inside(file)]);
        }
        command.extend(["--resolver".to_owned(), site::RESOLVER.to_string()]);
        let sidecar = images
            .sidecar
            .with_entrypoint("sh")
            .with_cmd(command)
            .with_network("none")
            .with_env_var("SANDGATE_FILTERS", Form::of_this_run()?.name())
            .with_cap_add("NET_ADMIN")
            // Its settings are below /proc/sys, which engines make read-only.
            .with_host_config_modifier(|host| host.readonly_paths = Some(Vec::new()))
            .with_mount(bind(folder.path(), INSIDE))
            .start()
            .context("the sidecar's container does not start")?;

        let rig = Rig::around([&process(&sandbox)?, &process(&sidecar)?])?;
        let containers = Self { rig, sandbox, sidecar, folder };
        std::fs::write(containers.folder.path().join("wired"), "")?;
        containers.until_ready()?;
        Ok(containers)
    }

    fn until_ready(&self) -> Result<()> {
        let begun = Instant::now();
        while !self.folder.path().join("ready").exists() {
            if begun.elapsed() > LIVENESS {
                let said = self.sidecar.stdout_to_vec()?;
                bail!("the sidecar is not ready: {}", String::from_utf8_lossy(&said));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Puts another policy in place, and does not wait.
    pub fn write(&self, policy: &serde_json::Value) -> Result<()> {
        let partial = self.folder.path().join("policy.part");
        std::fs::write(&partial, policy.to_string())?;
        Ok(std::fs::rename(partial, self.folder.path().join("policy.json"))?)
    }

    /// What `curl` gets in the sandbox's container: its exit status, and what it printed.
    pub fn curl(&self, url: &str) -> Result<(i64, String)> {
        let command = ["curl", "-q", "-sS", "--insecure", "--max-time", "20", url];
        let mut running = self.sandbox.exec(ExecCommand::new(command))?;
        let said = running.stdout_to_vec()?;
        let status = running.exit_code()?.context("`curl` has no exit status")?;
        Ok((status, String::from_utf8_lossy(&said).into_owned()))
    }

    /// Kills the sidecar's container: it gets no chance to clean up.
    pub fn kill_sidecar(&self) -> Result<()> {
        output(Command::new("docker").args(["kill", self.sidecar.id()])).map(drop)
    }
}

fn bind(from: &Path, to: &str) -> Mount {
    Mount::bind_mount(from.display().to_string(), to)
}

/// What the containers are made of.
struct Images {
    sandbox: GenericImage,
    /// By deploy/images/sidecar.Dockerfile, as users build it.
    sidecar: GenericImage,
    /// What the sidecar's image starts, which waits for its links here.
    entrypoint: Vec<String>,
}

impl Images {
    /// Makes them, if they are missing.
    fn make(program: &Path) -> Result<Self> {
        let mut script = Command::new(root().join("scripts/egress-image"));
        script.arg(program).arg(Form::Wasm.filter()?).arg(Form::Native.filter()?);
        let made = output(&mut script)?;
        let (sandbox, sidecar) = made.trim().split_once(' ').context("two images")?;
        let image = |name: &str| -> Result<GenericImage> {
            let (name, tag) = name.rsplit_once(':').context("an image without a tag")?;
            Ok(GenericImage::new(name, tag))
        };
        let mut inspect = Command::new("docker");
        inspect.args(["inspect", "--format", "{{json .Config.Entrypoint}}", sidecar]);
        let entrypoint = serde_json::from_str(&output(&mut inspect)?)?;
        Ok(Self { sandbox: image(sandbox)?, sidecar: image(sidecar)?, entrypoint })
    }
}

/// The number of a container's first process, on this machine.
fn process(container: &Container<GenericImage>) -> Result<String> {
    let mut inspect = Command::new("docker");
    inspect.args(["inspect", "--format", "{{.State.Pid}}", container.id()]);
    let number = output(&mut inspect)?.trim().to_owned();
    ensure!(number != "0", "a container has ended, or the engine is on another machine");
    Ok(number)
}
