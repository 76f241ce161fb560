//! Runs the program `ip`.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

/// Why a network namespace can't be used.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    #[error("`{command}` failed: {reason}")]
    Command { command: String, reason: String },
    #[error("the network namespace {name} can't be entered: {source}")]
    Enter { name: String, source: std::io::Error },
    #[error("`{command}` printed something unexpected: {source}")]
    Output { command: String, source: serde_json::Error },
    #[error("processes {pids:?} in the network namespace {name} can't be killed")]
    Unkillable { name: String, pids: Vec<i32> },
}

/// Runs a command with this input. Returns its output whatever its status is.
pub(crate) fn output_of(command: &[&str], input: &str) -> std::io::Result<Output> {
    let (program, arguments) =
        command.split_first().ok_or_else(|| std::io::Error::other("an empty command"))?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // The command may end before it reads its input; its status tells.
        drop(stdin.write_all(input.as_bytes()));
    }
    child.wait_with_output()
}

/// Runs a command that must succeed, and returns its standard output.
pub(crate) fn run(command: &[&str], input: &str) -> Result<String, NetnsError> {
    let failed = |reason: String| NetnsError::Command { command: command.join(" "), reason };
    let output = output_of(command, input).map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs commands of `ip`, one on each line, in the namespace of this process. Stops at the first that fails.
///
/// # Errors
/// `ip` can't be run, or a command failed.
pub fn ip_batch(commands: &str) -> Result<(), NetnsError> {
    run(&["ip", "-batch", "-"], commands).map(drop)
}

/// As [`ip_batch`], in the namespace with this name.
///
/// # Errors
/// As there.
pub fn ip_batch_in(namespace: &str, commands: &str) -> Result<(), NetnsError> {
    run(&["ip", "-n", namespace, "-batch", "-"], commands).map(drop)
}

/// Removes a link of this process's namespace, and its peer. Succeeds if it does not exist.
///
/// # Errors
/// `ip` failed.
pub fn remove_link(name: &str) -> Result<(), NetnsError> {
    let removed = run(&["ip", "link", "del", name], "");
    if std::path::Path::new("/sys/class/net").join(name).exists() {
        removed.map(drop)
    } else {
        Ok(())
    }
}
