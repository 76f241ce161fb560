//! Runs code and programs in a network namespace.

use std::ops::Deref;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// A network namespace of the rig.
#[derive(Clone, Debug)]
pub struct Namespace(sandgate_netns::Namespace);

impl Deref for Namespace {
    type Target = sandgate_netns::Namespace;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Namespace {
    /// Refers to an existing namespace.
    pub(crate) fn named(name: String) -> Self {
        Self(sandgate_netns::Namespace::named(name))
    }

    /// [`sandgate_netns::Namespace::enter`], with the error of these tests.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        Ok(self.0.enter(work)?)
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
