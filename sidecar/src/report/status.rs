//! The agent's status.

use serde::Serialize;

use crate::settings::Bounds;

/// The content of the status file.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub(crate) struct Status {
    /// Whether all three enforcers apply the generation, and outbound traffic passes.
    pub(crate) ready: bool,
    /// The last policy generation that all three enforcers applied, or 0.
    pub(crate) generation: u64,
    /// Why all outbound traffic is denied, or why a newer policy or newer operator's settings are not applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) problem: Option<String>,
    /// The number of Envoy's restarts.
    pub(crate) envoy_restarts: u64,
    /// The maximum number of simultaneous connections of the sandbox.
    pub(crate) envoy_max_connections: u32,
    /// The maximum size of Envoy's heap, in bytes.
    pub(crate) envoy_max_heap_bytes: u64,
    /// Envoy's resident memory, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) envoy_resident_bytes: Option<u64>,
    /// The agent's resident memory, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) agent_resident_bytes: Option<u64>,
}

impl Status {
    /// The status before the first policy.
    #[must_use]
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            envoy_max_connections: bounds.connections,
            envoy_max_heap_bytes: bounds.heap,
            ..Self::default()
        }
    }
}

/// The resident memory of a process, in bytes (`VmRSS` of proc(5), which is in KiB).
#[must_use]
pub(crate) fn resident_bytes(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_from_proc() {
        let own = resident_bytes(std::process::id()).unwrap();
        assert!(own > 1 << 20 && own < 1 << 32, "{own}");
        assert_eq!(resident_bytes(u32::MAX), None);
    }
}
