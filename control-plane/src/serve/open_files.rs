//! The process's limit on open files. Each connection is an open file. Without enough of them, the first
//! connections would exclude all others, whatever the bounds on connections say.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::{ApiSettings, GatewaySettings};

/// The open files apart from connections: the store, its readers, webhook calls, and the pipes of sandboxes.
const OTHERS: u64 = 512;

/// The number of open files that the bounds of both APIs and of the xDS server need. `xds` is the bound of the latter.
pub(super) fn needed(api: &ApiSettings, gateway: &GatewaySettings, xds: usize) -> u64 {
    let connections = [api.connections, gateway.connections, gateway.sidecars, xds];
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_connections_of_edges_are_counted() {
        let api = ApiSettings { connections: 10, requests: 0, requests_per_project: 0, waiting: 0 };
        let gateway = GatewaySettings { connections: 20, sidecars: 30 };
        assert_eq!(needed(&api, &gateway, 40), OTHERS + 100);
    }
}
