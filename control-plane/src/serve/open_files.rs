//! The process's limit on open files. Each connection is an open file. Without enough of them, the first
//! connections would exclude all others, whatever the bounds on connections say.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::{ApiSettings, GatewaySettings};

/// The open files apart from connections: the store, its readers, webhook calls, and the pipes of sandboxes.
const OTHERS: u64 = 512;

/// The number of open files that the bounds of both APIs need.
pub(super) fn needed(api: &ApiSettings, gateway: &GatewaySettings) -> u64 {
    let connections = [api.connections, gateway.connections, gateway.sidecars];
    connections
        .iter()
        .fold(OTHERS, |sum, more| sum.saturating_add(u64::try_from(*more).unwrap_or(u64::MAX)))
}

/// Raises the limit to `needed`, if it is lower.
///
/// # Errors
/// The process's hard limit is lower than `needed`.
pub(super) fn ensure_limit(needed: u64) -> anyhow::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft >= needed {
        return Ok(());
    }
    anyhow::ensure!(
        hard >= needed,
        "the bounds on connections need {needed} open files, and this process may have {hard}; raise \
         the limit (`ulimit -Hn`, systemd's `LimitNOFILE=`), or lower --api-connections, \
         --gateway-connections and --sidecars"
    );
    setrlimit(Resource::RLIMIT_NOFILE, needed, hard)?;
    Ok(())
}
