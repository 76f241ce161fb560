//! Passes transactions to `nft`.

use std::io;
use std::process::Stdio;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// The program `nft`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Nft {
    _private: (),
}

/// The transaction was not applied. No part of it has taken effect.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NftError {
    /// The program can't be run.
    #[error("`nft` can't be run: {0}; install Debian's nftables, or your distribution's package")]
    NoProgram(#[source] io::Error),
    /// `nft` refused the transaction.
    #[error("nft refused the rules: {0}")]
    Refused(String),
}

impl Nft {
    /// Applies a transaction, all or nothing.
    ///
    /// # Errors
    ///
    /// If `nft` can't be run or the kernel refuses the transaction. The rules are unchanged in this
    /// case.
    pub(crate) async fn apply(&self, transaction: &str) -> Result<(), NftError> {
        let mut child = Command::new("nft")
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(NftError::NoProgram)?;
        if let Some(mut stdin) = child.stdin.take() {
            // `nft` may exit before it has read all input. Its exit status then reports the error.
            drop(stdin.write_all(transaction.as_bytes()).await);
        }
        let output = child.wait_with_output().await.map_err(NftError::NoProgram)?;
        if output.status.success() {
            return Ok(());
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        // The first line contains the error and its position. The other lines illustrate it.
        Err(NftError::Refused(stderr.lines().next().unwrap_or("no reason given").to_owned()))
    }
}
