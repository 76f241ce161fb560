//! The process of one sandbox, from its start to its end.

use std::net::IpAddr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::BufReader;
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::model::Sandbox;
use crate::runtime::program::{arguments, drain, log, no_pipe, wait_until_ready};
use crate::runtime::{Exited, Exits, RuntimeError};

/// The longest time until a program listens.
const READY_WITHIN: Duration = Duration::from_secs(10);
/// The longest time between the end of a program's standard input and its own end. After that it is killed.
const STOP_WITHIN: Duration = Duration::from_secs(2);

/// A running process and the task that waits for its end.
pub(super) struct Process {
    address: IpAddr,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<()>,
}

impl Process {
    /// Starts the program and waits until it prints `ready`.
    pub(super) async fn start(
        program: &Path,
        sandbox: &Sandbox,
        address: IpAddr,
        exits: Exits,
    ) -> Result<Self, RuntimeError> {
        let mut command = Command::new(program);
        command
            .args(arguments(sandbox, address))
            // The server's environment holds its operator's secrets.
            .env_clear()
            // The demo runs commands for callers of this project only. A variable, because other users of the machine can
            // read arguments.
            .env("SANDGATE_DEMO_PROJECT", sandbox.project_id.as_str())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| {
            RuntimeError::failed(format!("{} can't be started: {error}", program.display()))
        })?;
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(log(stderr, sandbox.id.clone()));
        }
        let mut stdout = BufReader::new(child.stdout.take().ok_or_else(no_pipe)?);
        match timeout(READY_WITHIN, wait_until_ready(&mut stdout)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(RuntimeError::TimedOut(READY_WITHIN)),
        }
        let (stop, stopped) = oneshot::channel();
        let id = sandbox.id.clone();
        let ended = tokio::spawn(async move {
            let drained = tokio::spawn(drain(stdout));
            if let Some(status) = watch(child, stopped).await {
                tracing::warn!(sandbox = %id, %address, %status, "a sandbox ended by itself");
                // Sending fails if the server is stopping.
                let _ = exits.send(Exited { id, address });
            }
            drained.abort();
        });
        Ok(Self { address, stop, ended })
    }

    pub(super) fn address(&self) -> IpAddr {
        self.address
    }

    /// Stops the process. Returns when it has ended.
    pub(super) async fn stop(self) {
        // It may have ended by itself.
        let _ = self.stop.send(());
        if let Err(error) = self.ended.await {
            tracing::error!(%error, "the task that watched a sandbox failed");
        }
    }
}

/// Waits for the end of a process. Returns its status if it ended without a call of [`Process::stop`].
async fn watch(mut child: Child, stopped: oneshot::Receiver<()>) -> Option<ExitStatus> {
    // `Child::wait` would close the standard input.
    let stdin = child.stdin.take();
    tokio::select! {
        status = child.wait() => return status.ok(),
        _ = stopped => {}
    }
    // A program with --exit-with-parent ends when its standard input is closed.
    drop(stdin);
    if timeout(STOP_WITHIN, child.wait()).await.is_err()
        && let Err(error) = child.kill().await
    {
        tracing::error!(%error, "a sandbox process can't be killed");
    }
    None
}
