//! Hands transactions to `nft`.

use std::io;
use std::process::Stdio;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// The program `nft`.
#[derive(Clone, Debug, Default)]
pub struct Nft {
    _private: (),
}

/// The kernel has not taken a transaction, and so nothing of it.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// No program.
    #[error("`nft` can't be run: {0}; install Debian's nftables, or your distribution's package")]
    NoProgram(#[source] io::Error),
    /// It said no.
    #[error("nft refused the rules: {0}")]
    Refused(String),
}

impl Nft {
    /// Applies a transaction, all or nothing.
    ///
    /// # Errors
    ///
    /// Where there is no `nft`, or the kernel refuses: nothing has changed then.
    pub async fn apply(&self, transaction: &str) -> Result<(), NftError> {
        let mut child = Command::new("nft")
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(NftError::NoProgram)?;
        if let Some(mut stdin) = child.stdin.take() {
            // It may say no before it has read everything; its answer counts.
            drop(stdin.write_all(transaction.as_bytes()).await);
        }
        let done = child.wait_with_output().await.map_err(NftError::NoProgram)?;
        if done.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&done.stderr);
        // Its first line says what and where; the others draw it.
        Err(NftError::Refused(said.lines().next().unwrap_or("no reason given").to_owned()))
    }
}
