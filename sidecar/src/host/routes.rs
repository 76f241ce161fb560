//! Policy routing that delivers marked packets to this machine, whatever their destination address
//! is, so that the DNS proxy receives them.

use super::ip::{IpError, ip};
use crate::nftables::layout::DNS_MARK;

/// Whether the loopback interface can have a route of IPv6. Container engines disable IPv6 in the namespace of a container without
/// an IPv6 address, and the kernel then refuses such a route. Without it, no query over IPv6 arrives anywhere: nftables
/// refuses to forward DNS.
fn loopback_has_v6() -> bool {
    let disabled = std::fs::read_to_string("/proc/sys/net/ipv6/conf/lo/disable_ipv6");
    disabled.is_ok_and(|value| value.trim() == "0")
}

/// The rules and routes that were added.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    added: Vec<Vec<String>>,
}

impl Routes {
    /// Adds the rules and routes for IPv4 and, if the namespace has it, for IPv6.
    ///
    /// # Errors
    ///
    /// If `ip` is not installed, or the agent lacks the permission.
    pub(crate) async fn add(&mut self) -> Result<(), IpError> {
        let number = DNS_MARK.to_string();
        for family in ["-4", "-6"].into_iter().take(if loopback_has_v6() { 2 } else { 1 }) {
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
