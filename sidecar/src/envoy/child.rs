//! Envoy's process: a user of its own, no privileges, and no life without the agent.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Command;

/// How Envoy is started.
#[derive(Clone, Debug)]
pub struct Program {
    /// The program `envoy`.
    pub path: PathBuf,
    /// The user, and group, that it runs as: nftables tells by it what Envoy dials.
    pub uid: u32,
}

/// A running Envoy. It is killed when this is dropped, and by the kernel when the agent dies.
#[derive(Debug)]
pub struct Child {
    process: tokio::process::Child,
    pid: u32,
}

/// Envoy can't be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No `setpriv`.
    #[error("`setpriv` can't be run: {0}; it is part of util-linux, 2.33 or newer")]
    Setpriv(#[source] io::Error),
    /// It has ended before it was known.
    #[error("Envoy ended at once")]
    Ended,
}

/// How long Envoy has for ending by itself.
const GRACE: Duration = Duration::from_secs(5);

impl Program {
    /// Starts Envoy with a bootstrap. Its output is the agent's.
    ///
    /// Call it on a thread that lives as long as the agent: the kernel's promise (`PR_SET_PDEATHSIG`) is
    /// about the thread that started the child.
    ///
    /// # Errors
    ///
    /// Where it can't be started. That it does not like its files shows later, by its end.
    pub fn start(&self, bootstrap: &Path) -> Result<Child, StartError> {
        let uid = self.uid.to_string();
        let process = Command::new("setpriv")
            .args(["--reuid", &uid, "--regid", &uid, "--clear-groups", "--no-new-privs"])
            .args(["--inh-caps", "-all", "--bounding-set", "-all", "--pdeathsig", "KILL", "--"])
            .arg(&self.path)
            .arg("--config-path")
            .arg(bootstrap)
            // One sandbox, one worker: a VM for each worker is what memory goes to.
            .args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "warn"])
            .current_dir("/")
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(StartError::Setpriv)?;
        let pid = process.id().ok_or(StartError::Ended)?;
        Ok(Child { process, pid })
    }
}

impl Child {
    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits until it has ended by itself. Cancelled, it can be called again.
    pub async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.process.wait().await
    }

    /// Ends it, by force if need be.
    pub async fn stop(mut self) {
        if let Some(pid) = self.process.id().and_then(|pid| i32::try_from(pid).ok()) {
            let _: nix::Result<()> = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        if tokio::time::timeout(GRACE, self.process.wait()).await.is_err() {
            drop(self.process.kill().await);
        }
    }
}
