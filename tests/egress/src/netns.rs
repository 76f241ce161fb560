//! Runs code and programs in a network namespace.

use std::fs::File;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use nix::sched::{CloneFlags, setns};

/// A named network namespace (`ip netns`).
#[derive(Clone, Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Refers to an existing namespace.
    pub(crate) fn named(name: String) -> Self {
        Self { name }
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Moves the calling thread into the namespace permanently. New sockets of the thread belong to the namespace.
    pub fn join(&self) -> Result<()> {
        let path = format!("/run/netns/{}", self.name);
        let file = File::open(&path).with_context(|| format!("`{path}` can't be opened"))?;
        setns(file, CloneFlags::CLONE_NEWNET)
            .with_context(|| format!("can't enter the network namespace {}", self.name))
    }

    /// Runs `work` on a new thread in the namespace. The caller propagates its panic.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
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

    /// Runs a program in the namespace, and returns its output. An error contains the output.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        output(self.command(program).args(arguments))
    }
}

/// Runs a command, and returns its standard output. An error contains the output.
pub fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_owned();
    let done = command.output().with_context(|| format!("`{}` can't be run", program.display()))?;
    ensure!(
        done.status.success(),
        "{command:?} ended with {}: {}{}",
        done.status,
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}
