//! Policy routing that delivers marked packets to this machine, whatever their destination address
//! is, so that the DNS proxy receives them.

use super::ip::{IpError, ip};
use crate::nftables::layout::DNS_MARK;

/// The rules and routes that were added.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    added: Vec<Vec<String>>,
}

impl Routes {
    /// Adds the rules and routes for IPv4 and, if the kernel supports it, for IPv6.
    ///
    /// # Errors
    ///
    /// If `ip` is not installed, or the agent lacks the permission.
    pub(crate) async fn add(&mut self) -> Result<(), IpError> {
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
                // Removes the entry of a killed agent, which would otherwise exist twice.
                drop(ip(&removal).await);
                ip(&command("add")).await?;
                self.added.push(removal);
            }
        }
        Ok(())
    }

    /// Removes the rules and routes. Returns an error message for each one that can't be removed.
    pub(crate) async fn remove(&mut self) -> Vec<String> {
        let mut errors = Vec::new();
        while let Some(removal) = self.added.pop() {
            if let Err(error) = ip(&removal).await {
                errors.push(error.to_string());
            }
        }
        errors
    }
}
