//! The program of a sandbox: its arguments, and the line by which it says that its ports can be reached.

use std::net::IpAddr;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::ChildStdout;

use super::RuntimeError;
use crate::model::Sandbox;

/// The most bytes of a line that are read while waiting for `ready`.
const MAX_LINE: u64 = 1_024;

/// The arguments with which the program of a sandbox is called: `serve --address A --id ID [--name N] --exit-with-parent`.
/// The program ends when its standard input is closed.
pub(super) fn arguments(sandbox: &Sandbox, address: IpAddr) -> Vec<String> {
    let mut arguments = vec!["serve".to_owned(), "--address".to_owned(), address.to_string()];
    arguments.extend(["--id".to_owned(), sandbox.id.as_str().to_owned()]);
    if let Some(name) = &sandbox.name {
        arguments.extend(["--name".to_owned(), name.as_str().to_owned()]);
    }
    arguments.push("--exit-with-parent".to_owned());
    arguments
}

/// Waits until the program prints `ready`.
pub(super) async fn wait_until_ready(
    stdout: &mut BufReader<ChildStdout>,
) -> Result<(), RuntimeError> {
    loop {
        let mut line = String::new();
        let read = (&mut *stdout).take(MAX_LINE).read_line(&mut line).await;
        match read.map_err(RuntimeError::failed)? {
            0 => return Err(RuntimeError::failed("the program ended before it was ready")),
            _ if line.trim() == "ready" => return Ok(()),
            _ => {}
        }
    }
}

/// Reads and discards output, so that the program does not block on a full pipe.
pub(super) async fn drain(mut stdout: BufReader<ChildStdout>) {
    let mut sink = tokio::io::sink();
    let _ = tokio::io::copy(&mut stdout, &mut sink).await;
}

pub(super) fn no_pipe() -> RuntimeError {
    RuntimeError::failed("the program has no standard output")
}
