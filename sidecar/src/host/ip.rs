//! Runs the program `ip`.

use std::borrow::Borrow;
use std::ffi::OsStr;
use std::process::Stdio;

use tokio::process::Command;

/// A call of `ip` failed.
#[derive(Debug, thiserror::Error)]
#[error("`ip {command}` failed: {reason}")]
pub(crate) struct IpError {
    command: String,
    reason: String,
}

/// Runs `ip` with these arguments.
///
/// # Errors
///
/// If `ip` can't be run, or its exit status is not 0. The error contains what it has written to standard error.
pub(super) async fn ip<S: AsRef<OsStr> + Borrow<str>>(arguments: &[S]) -> Result<(), IpError> {
    let failed = |reason: String| IpError { command: arguments.join(" "), reason };
    let output = Command::new("ip")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .await
        .map_err(|error| failed(format!("{error}; install Debian's iproute2")))?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}
