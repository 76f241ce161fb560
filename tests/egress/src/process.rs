//! A child process that ends with its test, even if the test is killed, and its output.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Runs a program, writes its process id to a file, and stops it when standard input ends, which happens when a [`Process`]
/// is dropped and when the tests are killed.
const GUARD: &str = r#"
exec 3<&0
"$@" </dev/null 3<&- &
program=$!
echo "$program" >"$PID_FILE"
(cat <&3; kill -TERM "$program"; sleep 10; kill -KILL "$program") >/dev/null 2>&1 &
wait "$program"
"#;

/// A child process. Dropping it stops the process.
#[derive(Debug)]
pub struct Process {
    guard: Child,
    pid: Pid,
    log: PathBuf,
}

impl Process {
    /// Starts a process whose output goes to the file `<folder>/<name>.log`.
    pub fn start(command: &Command, folder: &Path, name: &str) -> Result<Self> {
        let program = command.get_program();
        let log = folder.join(format!("{name}.log"));
        let pid_file = folder.join(format!("{name}.pid"));
        // The file of an earlier process with this name.
        drop(std::fs::remove_file(&pid_file));
        let file = File::options().create(true).append(true).open(&log)?;
        let guard = Command::new("sh")
            .args(["-c", GUARD, "sh"])
            .arg(program)
            .args(command.get_args())
            .env("PID_FILE", &pid_file)
            .stdin(Stdio::piped())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("`{}` can't be started", program.display()))?;
        let begun = Instant::now();
        loop {
            let text = std::fs::read_to_string(&pid_file).unwrap_or_default();
            if let Ok(pid) = text.trim().parse() {
                return Ok(Self { guard, pid: Pid::from_raw(pid), log });
            }
            if begun.elapsed() > Duration::from_secs(10) {
                bail!("`{}` did not start", program.display());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// The exit status, if the process has exited.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.guard.try_wait().ok().flatten()
    }

    /// The output so far.
    #[must_use]
    pub fn output(&self) -> String {
        std::fs::read(&self.log).map_or_else(
            |error| format!("(no output: {error})"),
            |bytes| String::from_utf8_lossy(&bytes).into_owned(),
        )
    }

    /// Sends SIGKILL, and waits until the process has exited.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        kill(self.pid, Signal::SIGKILL)?;
        Ok(self.guard.wait()?)
    }

    /// Sends SIGTERM, and waits until the process has exited.
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        kill(self.pid, Signal::SIGTERM)?;
        Ok(self.guard.wait()?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        // Fails only if the process has already exited.
        drop(self.guard.wait());
    }
}
