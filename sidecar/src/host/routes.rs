//! Routing of marked packets to this machine, whatever address they are for: so the DNS proxy gets them.

use std::process::Stdio;

use tokio::process::Command;

use crate::nftables::layout::DNS_MARK;

/// The rules and routes that were made.
#[derive(Debug, Default)]
pub struct Routes {
    made: Vec<Vec<String>>,
}

/// `ip` could not do it.
#[derive(Debug, thiserror::Error)]
#[error("`ip {command}` failed: {reason}")]
pub struct RouteError {
    command: String,
    reason: String,
}

impl Routes {
    /// Makes them, for IPv4 and, where the kernel has it, IPv6.
    ///
    /// # Errors
    ///
    /// Where `ip` is missing or the agent may not.
    pub async fn make(&mut self) -> Result<(), RouteError> {
        let number = DNS_MARK.to_string();
        let has_v6 = std::path::Path::new("/proc/net/if_inet6").exists();
        for family in ["-4", "-6"].into_iter().take(if has_v6 { 2 } else { 1 }) {
            for (what, arguments) in [
                ("rule", ["fwmark", &number, "lookup", &number, "pref", &number].as_slice()),
                ("route", ["local", "default", "dev", "lo", "table", &number].as_slice()),
            ] {
                let command = |verb: &str| {
                    let fixed = [family, what, verb].into_iter();
                    fixed.chain(arguments.iter().copied()).map(str::to_owned).collect::<Vec<_>>()
                };
                let removal = command("del");
                // One that a killed agent left behind would be there twice.
                drop(ip(&removal).await);
                ip(&command("add")).await?;
                self.made.push(removal);
            }
        }
        Ok(())
    }

    /// Takes them away again. What can't be is left, and named.
    pub async fn remove(&mut self) -> Vec<String> {
        let mut left = Vec::new();
        while let Some(removal) = self.made.pop() {
            if let Err(error) = ip(&removal).await {
                left.push(error.to_string());
            }
        }
        left
    }
}

async fn ip(words: &[String]) -> Result<(), RouteError> {
    let failed = |reason: String| RouteError { command: words.join(" "), reason };
    let done = Command::new("ip")
        .args(words)
        .stdin(Stdio::null())
        .output()
        .await
        .map_err(|error| failed(format!("{error}; install Debian's iproute2")))?;
    if done.status.success() {
        return Ok(());
    }
    Err(failed(String::from_utf8_lossy(&done.stderr).trim().to_owned()))
}
