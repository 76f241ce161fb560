//! Open files: each connection is one. Where the process may not have as many as its bounds promise, the
//! ones that came first would keep everyone else out, whatever the bounds say.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::{ApiSettings, GatewaySettings};

/// Files apart from connections: the store, its readers, calls of a webhook, the pipes of sandboxes.
const OTHERS: u64 = 512;

/// How many files the process may have open at once, by its settings.
pub(super) fn needed(api: &ApiSettings, gateway: &GatewaySettings) -> u64 {
    let connections = [api.connections, gateway.connections, gateway.sidecars];
    connections
        .iter()
        .fold(OTHERS, |sum, more| sum.saturating_add(u64::try_from(*more).unwrap_or(u64::MAX)))
}

/// Raises the process's limit to `needed`, if it is lower.
///
/// # Errors
/// It may not be raised so far: what it is, and what to do.
pub(super) fn allow(needed: u64) -> anyhow::Result<()> {
    let (now, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if now >= needed {
        return Ok(());
    }
    anyhow::ensure!(
        most >= needed,
        "the bounds on connections need {needed} open files, and this process may have {most}; raise \
         the limit (`ulimit -Hn`, systemd's `LimitNOFILE=`), or lower --api-connections, \
         --gateway-connections and --sidecars"
    );
    setrlimit(Resource::RLIMIT_NOFILE, needed, most)?;
    Ok(())
}
