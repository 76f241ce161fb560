//! Child processes and progress messages.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::tree;

/// Prints a line of progress on stderr. Results go to stdout.
pub(crate) fn say(line: &str) {
    eprintln!("==> {line}");
}

/// A command that runs in the root folder, finds the installed tools, and reads nothing from the terminal.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(tree::root()).env("PATH", tree::search_path()).stdin(Stdio::null());
    command
}

/// Runs a command to its end, with its output shown.
///
/// # Errors
/// The command can't be started, or it fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{} can't be started", name(command)))?;
    if !status.success() {
        bail!("{} failed", name(command));
    }
    Ok(())
}

/// The command line, for a message.
pub(crate) fn name(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(OsStr::to_string_lossy).collect();
    format!("`{}`", words.join(" "))
}

/// Runs a command to its end; its standard output. Its errors and progress are shown.
///
/// # Errors
/// The command can't be started, it fails, or its output is not text.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let done = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("{} can't be started", name(command)))?;
    if !done.status.success() {
        bail!("{} failed", name(command));
    }
    Ok(String::from_utf8(done.stdout)?)
}

/// Whether this is CI (`CI=true`), where everything has to run.
pub(crate) fn is_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true")
}
