//! Passes transactions to `nft`.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// The time within which `nft` must apply a transaction. The largest policy takes a fraction of it.
const LIMIT: Duration = Duration::from_secs(10);

/// The program `nft`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Nft {
    _private: (),
}

/// The transaction was not applied completely, so no part of it has taken effect, or it is unknown whether
/// it was applied ([`NftError::TimedOut`]).
#[derive(Debug, thiserror::Error)]
pub(crate) enum NftError {
    /// The program can't be run.
    #[error("`nft` can't be run: {0}; install Debian's nftables, or your distribution's package")]
    NoProgram(#[source] io::Error),
    /// `nft` refused the transaction.
    #[error("nft refused the rules: {0}")]
    Refused(String),
    /// `nft` did not end in time, and was killed.
    #[error("nft did not apply the rules within {LIMIT:?}; is the machine overloaded?")]
    TimedOut,
}

impl Nft {
    /// Applies a transaction, all or nothing.
    ///
    /// # Errors
    ///
    /// If `nft` can't be run, the kernel refuses the transaction, or it takes too long. `nft` has
    /// ended in all cases. After [`NftError::TimedOut`], the kernel may have applied the transaction;
    /// in the other cases the rules are unchanged.
    pub(crate) async fn apply(&self, transaction: &str) -> Result<(), NftError> {
        let mut command = Command::new("nft");
        command.args(["-f", "-"]);
        let (status, errors) = run(command, transaction, LIMIT).await?;
        if status.success() {
            return Ok(());
        }
        // The first line contains the error and its position. The other lines illustrate it.
        Err(NftError::Refused(errors.lines().next().unwrap_or("no reason given").to_owned()))
    }
}

/// Runs a program with this input, and returns its exit status and what it wrote to its standard error.
async fn run(
    mut command: Command,
    input: &str,
    limit: Duration,
) -> Result<(ExitStatus, String), NftError> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(NftError::NoProgram)?;
    if let Ok(ended) = timeout(limit, feed(&mut child, input)).await {
        return ended.map_err(NftError::NoProgram);
    }
    // Waits for its end, so that it can't apply the transaction after the gate was closed.
    drop(child.kill().await);
    Err(NftError::TimedOut)
}

async fn feed(child: &mut Child, input: &str) -> io::Result<(ExitStatus, String)> {
    if let Some(mut stdin) = child.stdin.take() {
        // `nft` may exit before it has read all input. Its exit status then reports the error.
        drop(stdin.write_all(input.as_bytes()).await);
    }
    let mut errors = Vec::new();
    if let Some(mut stderr) = child.stderr.take() {
        stderr.read_to_end(&mut errors).await?;
    }
    Ok((child.wait().await?, String::from_utf8_lossy(&errors).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn a_program_that_does_not_end_is_killed() {
        let limit = Duration::from_millis(200);
        for script in ["exec sleep 600", "cat; exec sleep 600"] {
            // More than a pipe holds.
            let ended = run(shell(script), &"x".repeat(1 << 20), limit).await;
            assert!(matches!(ended, Err(NftError::TimedOut)), "{script}: {ended:?}");
        }
    }

    #[tokio::test]
    async fn the_error_of_a_program_is_returned() {
        let script = "read line; echo $line >&2; exit 3";
        let (status, errors) = run(shell(script), "why\n", Duration::MAX).await.unwrap();
        assert_eq!((status.code(), errors.as_str()), (Some(3), "why\n"));
    }
}
