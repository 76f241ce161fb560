//! Envoy's process. It runs as its own user, without privileges, and the kernel kills it when the agent dies. The agent reads its
//! access log and writes it on to its own standard output.

use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Command;
use tokio::task::JoinHandle;

use crate::denials::DenialReport;
use crate::denials::envoy_log::{self, EnvoyDenials};
use crate::packet_log::Unreported;

/// The program and the user of Envoy.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    /// The user id and group id. nftables recognizes Envoy's connections by the user id.
    pub(crate) uid: u32,
}

/// A running Envoy. Dropping it kills the process.
#[derive(Debug)]
pub(crate) struct Child {
    process: tokio::process::Child,
    pid: u32,
    /// Ends with the access log.
    log: Option<JoinHandle<()>>,
    denials: EnvoyDenials,
    unlogged: Unreported,
}

/// Envoy can't be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("`setpriv` can't be run: {0}; it is part of util-linux, 2.33 or newer")]
    Setpriv(#[source] io::Error),
    #[error("Envoy exited immediately")]
    Ended,
    #[error("the standard output of the agent can't be used: {0}")]
    Output(#[source] io::Error),
}

/// The time between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(5);
/// The longest wait for the last lines of the access log after the end of the process.
const LAST_LINES: Duration = Duration::from_secs(1);

impl Program {
    /// Starts Envoy with a bootstrap. The denials in its access log are added to the report.
    ///
    /// Call it on a thread that lives as long as the agent: the kernel kills Envoy when the thread that started it ends
    /// (`PR_SET_PDEATHSIG`).
    ///
    /// # Errors
    ///
    /// If the process can't be started. If Envoy rejects its configuration, it exits later.
    pub(crate) fn start(
        &self,
        bootstrap: &Path,
        report: DenialReport,
    ) -> Result<Child, StartError> {
        let output = std::io::stdout().as_fd().try_clone_to_owned().map_err(StartError::Output)?;
        let uid = self.uid.to_string();
        let mut process = Command::new("setpriv")
            .args(["--reuid", &uid, "--regid", &uid, "--clear-groups", "--no-new-privs"])
            .args(["--inh-caps", "-all", "--bounding-set", "-all", "--pdeathsig", "KILL", "--"])
            .arg(&self.path)
            .arg("--config-path")
            .arg(bootstrap)
            // One worker: in the wasm form, each worker has a VM of its own, which takes most of the memory.
            .args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "warn"])
            .current_dir("/")
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            // Lets Envoy's allocator cache freed memory by processor instead of by thread (TCMalloc's documentation,
            // rseq.md), which is 2 MB less here.
            .env("GLIBC_TUNABLES", "glibc.pthread.rseq=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(StartError::Setpriv)?;
        let pid = process.id().ok_or(StartError::Ended)?;
        let output = tokio::fs::File::from_std(output.into());
        let denials = EnvoyDenials::adding_to(report);
        let copied = |log| tokio::spawn(envoy_log::copy(log, output, denials.clone()));
        let log = process.stdout.take().map(copied);
        Ok(Child { process, pid, log, denials, unlogged: Unreported::default() })
    }
}

impl Child {
    #[must_use]
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// The number of denials, of `counted` ones since the start, that are not in the report yet and have no line in the log.
    pub(crate) fn unlogged(&mut self, counted: u64) -> u64 {
        self.unlogged.more(counted, self.denials.logged())
    }

    /// Waits until the process has exited. Cancel safe.
    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.process.wait().await
    }

    /// Stops the process: with SIGTERM, and with SIGKILL after a grace period.
    pub(crate) async fn stop(mut self) {
        if let Some(pid) = self.process.id().and_then(|pid| i32::try_from(pid).ok()) {
            let _: nix::Result<()> = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        if tokio::time::timeout(GRACE, self.process.wait()).await.is_err() {
            drop(self.process.kill().await);
        }
        if let Some(log) = self.log {
            end_copy(log).await;
        }
    }
}

/// Waits for the last lines of the access log, but not for a reader of the agent's output that has stopped reading.
async fn end_copy(mut log: JoinHandle<()>) {
    if tokio::time::timeout(LAST_LINES, &mut log).await.is_err() {
        log.abort();
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;

    /// The fault: whatever reads the agent's output hangs, so a line of the access log can't be written.
    #[tokio::test(start_paused = true)]
    async fn a_copy_of_the_log_that_is_stuck_ends() {
        let ended = CancellationToken::new();
        let at_end = ended.clone().drop_guard();
        let stuck = tokio::spawn(async move {
            let _at_end = at_end;
            std::future::pending().await
        });
        end_copy(stuck).await;
        ended.cancelled().await;
    }
}
