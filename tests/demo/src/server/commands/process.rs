//! One process, from its start until nothing of it is left.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWriteExt};
use tokio::process::{Child, ChildStdin};
use tokio::sync::{Mutex, watch};
use tokio::time::timeout;

use super::output::{Output, Stream};
use super::refusal::Refusal;
use super::spec::Spec;
use super::stray::kill_marked;

/// How long the end of the pipes is awaited after everything was killed. A process that escaped may
/// hold them open.
const DRAIN: Duration = Duration::from_secs(1);
/// How long a process may leave its standard input full.
const STDIN_WAIT: Duration = Duration::from_secs(10);

/// A process that was started, and its output. It remains after the end.
#[derive(Debug)]
pub(super) struct Process {
    pid: i32,
    command: String,
    args: Vec<String>,
    started_at: u64,
    pub(super) output: Output,
    stdin: Mutex<Option<ChildStdin>>,
    takes_stdin: bool,
    end: watch::Sender<Option<End>>,
}

/// How and when a process ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    how: How,
    at: u64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum How {
    Exited(i32),
    Signaled(i32),
    TimedOut,
}

impl Process {
    /// Starts a process, and a task that waits for its end. Must be called in a runtime.
    pub(super) fn start(
        spec: Spec,
        directory: &Path,
        marker: String,
        time_limit: Duration,
    ) -> Result<Arc<Self>, Refusal> {
        let mut child = spec.command(directory, &marker)?.spawn().map_err(|error| {
            let text = format!("`{}` can't be started: {error}", spec.command);
            match error.kind() {
                std::io::ErrorKind::NotFound => {
                    Refusal::new(StatusCode::BAD_REQUEST, "COMMAND_NOT_FOUND", text)
                }
                _ => Refusal::new(StatusCode::BAD_REQUEST, "COMMAND_NOT_STARTED", text),
            }
        })?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).ok_or_else(|| {
            Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", "the process has no id")
        })?;
        let stdin = child.stdin.take();
        let process = Arc::new(Self {
            pid,
            command: spec.command,
            args: spec.args,
            started_at: super::now(),
            output: Output::new(),
            takes_stdin: stdin.is_some(),
            stdin: Mutex::new(stdin),
            end: watch::Sender::new(None),
        });
        tokio::spawn(process.clone().supervise(child, marker, time_limit));
        Ok(process)
    }

    async fn supervise(self: Arc<Self>, mut child: Child, marker: String, time_limit: Duration) {
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let this = self.clone();
        let mut recording = tokio::spawn(async move {
            tokio::join!(
                record(&this.output, stdout, Stream::Stdout),
                record(&this.output, stderr, Stream::Stderr),
            );
        });
        let ended = timeout(time_limit, child.wait()).await;
        // The number of the group stays taken while one of its processes lives, and the leader is
        // not waited for yet if the time is over.
        self.kill_group();
        let how = match ended {
            Ok(status) => How::of(status),
            Err(_) => {
                let _: std::io::Result<ExitStatus> = child.wait().await;
                How::TimedOut
            }
        };
        // Fails only if the runtime is shutting down.
        let _: Result<(), _> = tokio::task::spawn_blocking(move || kill_marked(&marker)).await;
        if timeout(DRAIN, &mut recording).await.is_err() {
            recording.abort();
        }
        // A call that waits for the process to read has failed, because all readers have ended.
        drop(self.stdin.lock().await.take());
        self.end.send_replace(Some(End { how, at: super::now() }));
        self.output.end();
    }

    pub(super) fn pid(&self) -> i32 {
        self.pid
    }

    pub(super) fn is_running(&self) -> bool {
        self.end.borrow().is_none()
    }

    /// Kills the process and its group, unless it has ended.
    pub(super) fn kill(&self) {
        if self.is_running() {
            self.kill_group();
        }
    }

    fn kill_group(&self) {
        // It fails if no process is left.
        let _: nix::Result<()> = killpg(Pid::from_raw(self.pid), Signal::SIGKILL);
    }

    /// Sends a signal to the process alone.
    pub(super) fn signal(&self, number: i32) -> Result<(), Refusal> {
        let signal = Signal::try_from(number).map_err(|_| {
            Refusal::bad_request(format!("`signal` must be the number of a signal, got {number}"))
        })?;
        if !self.is_running() {
            return Err(self.has_ended());
        }
        kill(Pid::from_raw(self.pid), signal).map_err(|_| self.has_ended())
    }

    /// Writes to the standard input.
    pub(super) async fn write(&self, bytes: &[u8]) -> Result<(), Refusal> {
        let mut stdin = self.stdin.lock().await;
        let Some(pipe) = stdin.as_mut() else { return Err(self.has_no_stdin()) };
        let written = timeout(STDIN_WAIT, async {
            pipe.write_all(bytes).await?;
            pipe.flush().await
        });
        match written.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(self.has_ended()),
            Err(_) => Err(Refusal::new(
                StatusCode::CONFLICT,
                "STDIN_FULL",
                "the process does not read its standard input",
            )),
        }
    }

    pub(super) async fn close_stdin(&self) -> Result<(), Refusal> {
        match self.stdin.lock().await.take() {
            Some(_) => Ok(()),
            None => Err(self.has_no_stdin()),
        }
    }

    fn has_ended(&self) -> Refusal {
        let message = format!("process {} has ended", self.pid);
        Refusal::new(StatusCode::CONFLICT, "PROCESS_ENDED", message)
    }

    fn has_no_stdin(&self) -> Refusal {
        let message = if self.takes_stdin {
            format!("the standard input of process {} is closed", self.pid)
        } else {
            format!("process {} has no standard input; start it with stdin_mode `pipe`", self.pid)
        };
        Refusal::new(StatusCode::CONFLICT, "STDIN_CLOSED", message)
    }

    /// The first event of a run.
    pub(super) fn started_event(&self) -> Value {
        json!({ "pid": self.pid, "started_at": self.started_at })
    }

    /// The last event of a run, which waits for the end.
    pub(super) async fn end_event(&self) -> Value {
        let mut end = self.end.subscribe();
        // The sender is in `self`, so waiting can't fail.
        let end = end.wait_for(Option::is_some).await.ok().and_then(|end| *end);
        end.map_or(Value::Null, |end| end.how.event())
    }

    /// The process as the clients list it.
    pub(super) fn info(&self) -> Value {
        let end = *self.end.borrow();
        let (status, exit_code, signal) = match end.map(|end| end.how) {
            None => ("running", None, None),
            Some(How::Exited(code)) => ("exited", Some(code), None),
            Some(How::Signaled(signal)) => ("signaled", None, Some(signal)),
            Some(How::TimedOut) => ("signaled", None, Some(Signal::SIGKILL as i32)),
        };
        json!({
            "pid": self.pid,
            "status": status,
            "exit_code": exit_code,
            "signal": signal,
            "stdin_writable": end.is_none() && self.takes_stdin,
            "command": self.command,
            "args": self.args,
            "started_at": self.started_at,
            "ended_at": end.map(|end| end.at),
        })
    }
}

async fn record(output: &Output, pipe: Option<impl AsyncRead + Unpin>, stream: Stream) {
    if let Some(pipe) = pipe {
        output.record(pipe, stream).await;
    }
}

impl How {
    fn of(status: std::io::Result<ExitStatus>) -> Self {
        match status.map(|status| (status.code(), status.signal())) {
            Ok((Some(code), _)) => Self::Exited(code),
            Ok((None, Some(signal))) => Self::Signaled(signal),
            // Its status is lost, which is no success.
            _ => Self::Signaled(Signal::SIGKILL as i32),
        }
    }

    fn event(self) -> Value {
        match self {
            Self::Exited(code) => json!({ "exit_code": code, "reason": "exited" }),
            Self::Signaled(signal) => json!({ "signal": signal, "reason": "signaled" }),
            Self::TimedOut => json!({ "signal": Signal::SIGKILL as i32, "reason": "timed_out" }),
        }
    }
}
