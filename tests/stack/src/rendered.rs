//! The configuration of a sidecar's Envoy as files, for the benchmark that starts Envoy without `sandgate-sidecar`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use sandgate_envoy_config::{EGRESS_LOG, EgressFilter, Filters, Sidecar};

use crate::artifacts::egress_filter;
use crate::files::write_private;

/// Writes all files of a sidecar's Envoy into a folder; returns the bootstrap. `egress_config` is the configuration of the
/// egress filter as JSON.
pub fn write_sidecar(folder: &Path, filters: Filters, egress_config: &str) -> Result<PathBuf> {
    let folder = std::path::absolute(folder)?;
    let file = |name: &str| folder.join(name);
    let filter = EgressFilter { config: egress_config, filters, module: egress_filter(filters)? };
    for (name, text) in EgressFilter::FILE_NAMES.into_iter().zip(filter.render()?) {
        write_private(&file(name), &text)?;
    }
    let sidecar = Sidecar::usual(&folder, filters);
    write_private(&sidecar.log, EGRESS_LOG)?;
    let bootstrap = file("sidecar.yaml");
    write_private(&bootstrap, &sidecar.render()?)?;
    Ok(bootstrap)
}
