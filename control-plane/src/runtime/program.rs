//! The program of a sandbox: its arguments, its output, and the line by which it says that its ports can be reached.

use std::net::IpAddr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::ChildStdout;
use tokio::time::sleep;

use super::RuntimeError;
use crate::model::{Sandbox, SandboxId};

/// The most bytes of a line that are read while waiting for `ready`.
const MAX_LINE: u64 = 1_024;
/// The most bytes of the log that a program gets. A budget for each hour would fill a disk more slowly.
const MAX_LOG: usize = 64 << 10;
/// The pause after each read of output that is discarded. A program that writes all the time waits, and this server does not.
const PAUSE: Duration = Duration::from_millis(20);

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
pub(super) async fn drain(mut output: impl AsyncRead + Unpin) {
    let mut buffer = vec![0; 64 << 10];
    while matches!(output.read(&mut buffer).await, Ok(1..)) {
        sleep(PAUSE).await;
    }
}

/// Logs the first lines that a program writes to its standard error, and discards the others. The program may be anybody's, so
/// its lines have the sandbox's id, and no control characters.
pub(super) async fn log(stderr: impl AsyncRead + Unpin, sandbox: SandboxId) {
    let mut stderr = BufReader::new(stderr);
    let mut budget = MAX_LOG;
    while let Some(line) = next_line(&mut stderr, &mut budget).await {
        tracing::info!(target: "sandgate::sandbox", %sandbox, "{line}");
    }
    if budget == 0 {
        tracing::warn!(target: "sandgate::sandbox", %sandbox, "its further output is not logged");
        drain(stderr).await;
    }
}

/// The next line, without control characters, as long as the budget lasts.
async fn next_line(
    stderr: &mut (impl AsyncBufReadExt + Unpin),
    budget: &mut usize,
) -> Option<String> {
    let mut line = Vec::new();
    match stderr.take(MAX_LINE).read_until(b'\n', &mut line).await {
        Ok(0) | Err(_) => return None,
        Ok(_) => {}
    }
    let text = String::from_utf8_lossy(&line);
    let escaped = text.trim_end().chars().flat_map(|c| {
        let (control, other) = if c.is_control() { (Some(c), None) } else { (None, Some(c)) };
        control.into_iter().flat_map(char::escape_unicode).chain(other)
    });
    let escaped: String = escaped.collect();
    // An empty line is a line of the log too.
    match budget.checked_sub(escaped.len().saturating_add(100)) {
        Some(rest) => *budget = rest,
        None => {
            *budget = 0;
            return None;
        }
    }
    Some(escaped)
}

pub(super) fn no_pipe() -> RuntimeError {
    RuntimeError::failed("the program has no standard output")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_writes_neither_control_characters_nor_without_end_to_the_log() {
        let output = b"\x1b[2J\rsandgate::audit\tforged\n".repeat(10_000);
        let (mut stderr, mut budget) = (BufReader::new(output.as_slice()), MAX_LOG);
        let mut lines = 0;
        while let Some(line) = next_line(&mut stderr, &mut budget).await {
            assert_eq!(line, r"\u{1b}[2J\u{d}sandgate::audit\u{9}forged");
            lines += 1;
        }
        assert!((100..1_000).contains(&lines), "{lines}");
        assert_eq!(budget, 0);
    }
}
