//! A named network namespace (`ip netns`).

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::ip::{NetnsError, run};

const FOLDER: &str = "/run/netns";
/// The longest time until the processes of a namespace have ended after SIGKILL.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// A named network namespace, which may or may not exist.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    #[must_use]
    pub fn named(name: String) -> Self {
        Self { name }
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn path(&self) -> PathBuf {
        Path::new(FOLDER).join(&self.name)
    }

    #[must_use]
    pub fn exists(&self) -> bool {
        self.path().exists()
    }

    /// Moves the calling thread into the namespace permanently. New sockets of the thread belong to the namespace.
    ///
    /// # Errors
    /// The namespace does not exist, or the process may not enter it.
    pub fn join(&self) -> Result<(), NetnsError> {
        let failed = |source| NetnsError::Enter { name: self.name.clone(), source };
        let file = File::open(self.path()).map_err(failed)?;
        setns(file, CloneFlags::CLONE_NEWNET).map_err(|error| failed(error.into()))
    }

    /// Runs `work` on a new thread in the namespace. The caller propagates its panic.
    ///
    /// # Errors
    /// As [`Self::join`].
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| self.join().map(|()| work()));
            match thread.join() {
                Ok(done) => done,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// A command that runs in the namespace.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Kills all processes in the namespace, and removes its name. The kernel removes the namespace with its links when the
    /// last process has ended. Succeeds if the namespace does not exist.
    ///
    /// # Errors
    /// A process can't be killed, or `ip` failed.
    pub fn remove(&self) -> Result<(), NetnsError> {
        if !self.exists() {
            return Ok(());
        }
        self.kill_processes()?;
        run(&["ip", "netns", "del", &self.name], "").map(drop)
    }

    fn kill_processes(&self) -> Result<(), NetnsError> {
        let begun = Instant::now();
        loop {
            // Each pass finds the processes that others have started since the last one.
            let pids = self.processes()?;
            if pids.is_empty() {
                return Ok(());
            }
            if begun.elapsed() > KILL_LIMIT {
                return Err(NetnsError::Unkillable { name: self.name.clone(), pids });
            }
            for pid in pids {
                // It fails if the process has ended.
                let _: nix::Result<()> = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn processes(&self) -> Result<Vec<i32>, NetnsError> {
        let listed = run(&["ip", "netns", "pids", &self.name], "")?;
        Ok(listed.lines().filter_map(|line| line.trim().parse().ok()).collect())
    }
}

/// The namespaces whose names start like this.
///
/// # Errors
/// The folder of the names can't be read.
pub fn namespaces_with(prefix: &str) -> io::Result<Vec<Namespace>> {
    let entries = match std::fs::read_dir(FOLDER) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    Ok(names.filter(|name| name.starts_with(prefix)).map(Namespace::named).collect())
}

/// Removes all namespaces and links of a prefix, and kills the processes in them. Returns an error for each one that stays.
#[must_use]
pub fn remove_all(prefix: &crate::Prefix) -> Vec<String> {
    let mut errors = Vec::new();
    match namespaces_with(&format!("{prefix}-")) {
        Ok(found) => {
            errors.extend(found.iter().filter_map(|one| one.remove().err()).map(|e| e.to_string()));
        }
        Err(error) => errors.push(format!("`{FOLDER}` can't be read: {error}")),
    }
    let links = std::fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let names = links.filter_map(|entry| entry.file_name().into_string().ok());
    for name in names.filter(|name| name.starts_with(&prefix.of_links())) {
        errors.extend(crate::remove_link(&name).err().map(|error| error.to_string()));
    }
    errors
}
