//! The configuration of a sidecar's Envoy as files, for the benchmark that starts Envoy without `sandgate-sidecar`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use sandgate_envoy_config::{EGRESS_LOG, EgressFilter, Sidecar};

use crate::artifacts::egress_filter;
use crate::files::write_private;

/// Writes all files of a sidecar's Envoy into a folder; returns the bootstrap. `egress_config` is the configuration of the
/// egress filter as JSON.
pub fn write_sidecar(folder: &Path, egress_config: &str) -> Result<PathBuf> {
    let folder = std::path::absolute(folder)?;
    let file = |name: &str| folder.join(name);
    let [tcp, http] = EgressFilter::FILE_NAMES;
    let filter = EgressFilter { config: egress_config, wasm: egress_filter()? };
    for (name, text) in EgressFilter::FILE_NAMES.into_iter().zip(filter.render()?) {
        write_private(&file(name), &text)?;
    }
    // The values that `sandgate-sidecar` uses.
    let sidecar = Sidecar {
        admin_port: 15_000,
        plain_port: 15_001,
        inspected_port: 15_002,
        probe_port: 15_003,
        reset_port: 15_004,
        refused_port: 15_005,
        resolver_port: 15_054,
        inspection: Duration::from_millis(150),
        refusal: Duration::from_millis(50),
        connections: 20_000,
        heap: 1 << 30,
        buffer: 128 << 10,
        tcp_ecds: file(tcp),
        http_ecds: file(http),
        log: file("egress-log.yaml"),
    };
    write_private(&sidecar.log, EGRESS_LOG)?;
    let bootstrap = file("sidecar.yaml");
    write_private(&bootstrap, &sidecar.render()?)?;
    Ok(bootstrap)
}
