//! A child process that never outlives its parent, and its log.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

/// The number of lines of the log that an error shows.
const TAIL: usize = 15;

/// A process in a process group of its own, so that Ctrl-C in a terminal does not reach it. It is stopped when this value
/// is dropped. If this process itself is killed, the kernel sends SIGTERM to the child.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    patience: Duration,
}

impl Process {
    /// Starts a program, and appends its output to the file `log`, which only its owner can read. `name` appears in
    /// errors.
    ///
    /// Don't call this on a thread that ends before the process should: the kernel sends SIGTERM when that thread ends.
    pub fn start(name: &str, command: &Command, log: &Path) -> Result<Self> {
        let program = command.get_program();
        let file = File::options().create(true).append(true).mode(0o600).open(log);
        let file = file.with_context(|| format!("`{}` can't be opened", log.display()))?;
        // `setpriv` calls prctl(PR_SET_PDEATHSIG) and executes the program, which keeps the process id.
        let mut guarded = Command::new("setpriv");
        guarded.args(["--pdeathsig", "TERM", "--"]).arg(program).args(command.get_args());
        for (variable, value) in command.get_envs() {
            match value {
                Some(value) => guarded.env(variable, value),
                None => guarded.env_remove(variable),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            guarded.current_dir(folder);
        }
        let child = guarded
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .context("`setpriv` (util-linux) can't be started")?;
        let (name, log) = (name.to_owned(), log.to_owned());
        Ok(Self { name, child, log, patience: Duration::ZERO })
    }

    /// Sets the time that [`Process::stop`] waits between SIGTERM and SIGKILL. By default, it sends only SIGKILL.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The exit status, if the process has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Fails if the process has ended.
    pub fn require_running(&mut self) -> Result<()> {
        let Some(status) = self.ended() else { return Ok(()) };
        let what = match status.signal().map(Signal::try_from) {
            Some(Ok(signal)) => format!("was killed by {signal}"),
            _ => format!("exited with status {}", status.code().unwrap_or(-1)),
        };
        Err(self.failure(&what))
    }

    /// Waits until `attempt` returns a value. Fails as soon as the process ends, and after `limit`, with `what` in the
    /// error.
    pub async fn until<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut attempt: impl AsyncFnMut(&mut Self) -> Result<Option<T>>,
    ) -> Result<T> {
        let begun = Instant::now();
        loop {
            self.require_running()?;
            if let Some(value) = attempt(self).await? {
                return Ok(value);
            }
            if begun.elapsed() > limit {
                return Err(self.failure(&format!("{what} within {limit:?}")));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// An error that says what the process did, and shows the end of its log.
    pub fn failure(&self, what: &str) -> anyhow::Error {
        let (name, log, output) = (&self.name, self.log.display(), self.output());
        let lines: Vec<&str> = output.lines().collect();
        let tail: String = lines
            .iter()
            .skip(lines.len().saturating_sub(TAIL))
            .map(|line| format!("\n  {}", line.chars().take(400).collect::<String>()))
            .collect();
        match tail.as_str() {
            "" => anyhow!("{name} {what}; its log is {log}"),
            tail => anyhow!("{name} {what}; its log is {log}, which ends with:{tail}"),
        }
    }

    /// The log.
    #[must_use]
    pub fn output(&self) -> String {
        std::fs::read(&self.log).map_or_else(
            |error| format!("(no output: {error})"),
            |bytes| String::from_utf8_lossy(&bytes).into_owned(),
        )
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) -> Result<()> {
        kill(self.pid()?, Signal::SIGTERM)
            .with_context(|| format!("SIGTERM can't be sent to {}", self.name))
    }

    /// Sends SIGSTOP: the process does nothing until [`Self::go_on`].
    ///
    /// # Errors
    /// When the process does not exist.
    pub fn pause(&self) -> Result<()> {
        kill(self.pid()?, Signal::SIGSTOP)
            .with_context(|| format!("SIGSTOP can't be sent to {}", self.name))
    }

    /// Sends SIGCONT.
    ///
    /// # Errors
    /// When the process does not exist.
    pub fn go_on(&self) -> Result<()> {
        kill(self.pid()?, Signal::SIGCONT)
            .with_context(|| format!("SIGCONT can't be sent to {}", self.name))
    }

    /// Sends SIGKILL.
    pub fn crash(&self) -> Result<()> {
        kill(self.pid()?, Signal::SIGKILL)
            .with_context(|| format!("SIGKILL can't be sent to {}", self.name))
    }

    /// Stops the process, and kills all processes of its group. If [`Self::with_patience`] set a time, the process
    /// first gets SIGTERM and has that time to end.
    pub fn stop(&mut self) {
        let begun = Instant::now();
        let mut is_terminated = self.patience.is_zero();
        while self.ended().is_none() && begun.elapsed() < self.patience {
            if !is_terminated {
                is_terminated = true;
                // It fails only if the process has ended already.
                drop(self.terminate());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        if let Ok(group) = self.pid() {
            // It fails if no process of the group is left.
            let _: nix::Result<()> = killpg(group, Signal::SIGKILL);
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }

    fn pid(&self) -> Result<Pid> {
        Ok(Pid::from_raw(self.child.id().try_into()?))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, log: &Path) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Process::start("the part", &command, log).unwrap()
    }

    fn wait_for(mut done: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !done() {
            assert!(begun.elapsed() < Duration::from_secs(10), "not within 10 s");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Whether a process exists and is not a zombie.
    fn is_alive(pid: u32) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, fields)| !fields.starts_with('Z'))
    }

    #[test]
    fn a_process_that_ends_is_named_with_the_end_of_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("part.log");
        let mut process = shell("echo the reason; exit 3", &log);
        wait_for(|| process.ended().is_some());
        let error = process.require_running().unwrap_err().to_string();
        let log = log.display();
        assert_eq!(
            error,
            format!(
                "the part exited with status 3; its log is {log}, which ends with:\n  the reason"
            )
        );
    }

    #[test]
    fn stopping_leaves_neither_the_process_nor_its_children() {
        let folder = tempfile::tempdir().unwrap();
        // It ignores SIGTERM, and has a child.
        let process = shell(
            "trap '' TERM; sleep 1000 & echo $!; wait; sleep 1000",
            &folder.path().join("log"),
        );
        wait_for(|| process.output().ends_with('\n'));
        let (id, child) = (process.id(), process.output().trim().parse().unwrap());
        assert!(is_alive(id) && is_alive(child));
        drop(process.with_patience(Duration::from_millis(200)));
        assert!(!is_alive(id));
        wait_for(|| !is_alive(child));
    }

    #[test]
    fn a_process_with_patience_can_end_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let process =
            shell("trap 'echo bye; exit' TERM; echo ready; while :; do sleep 0.02; done", &log);
        wait_for(|| process.output().contains("ready"));
        drop(process.with_patience(Duration::from_secs(10)));
        assert_eq!(std::fs::read_to_string(log).unwrap(), "ready\nbye\n");
    }
}
