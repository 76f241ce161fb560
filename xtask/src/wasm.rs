//! The build of the Envoy filters as wasm modules.

mod exports;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::process::{command, run, say};
use crate::tree;

struct Filter {
    /// The name of the module.
    name: &'static str,
    package: &'static str,
    /// The profile in `Cargo.toml`.
    profile: &'static str,
    /// The callbacks that the filter uses.
    callbacks: &'static [&'static str],
}

const FILTERS: [Filter; 2] = [
    Filter {
        name: "sandgate_ingress",
        package: "sandgate-ingress",
        profile: "wasm",
        callbacks: &[
            "proxy_on_vm_start",
            "proxy_on_configure",
            "proxy_on_tick",
            "proxy_on_queue_ready",
            "proxy_on_http_call_response",
            "proxy_on_request_headers",
            "proxy_on_request_trailers",
            "proxy_on_response_headers",
            "proxy_on_response_trailers",
        ],
    },
    Filter {
        name: "sandgate_egress",
        package: "sandgate-egress",
        profile: "wasm-small",
        callbacks: &[
            "proxy_on_vm_start",
            "proxy_on_configure",
            "proxy_on_tick",
            "proxy_on_new_connection",
            "proxy_on_downstream_data",
            "proxy_on_request_headers",
        ],
    },
];

/// Where a built filter is, whatever cargo's target folder is.
pub(crate) fn built(filter: &str) -> PathBuf {
    tree::root().join("target/filters").join(filter).with_extension("wasm")
}

/// Builds the filters, and puts them where [`built`] says.
///
/// # Errors
/// The filters do not build.
pub(crate) fn build() -> Result<()> {
    for filter in FILTERS {
        let mut cargo = command("scripts/wasm-cargo");
        run(cargo.args(["build", "--profile", filter.profile, "--package", filter.package]))?;
        let folder = tree::target().join("wasm32-unknown-unknown").join(filter.profile);
        let module = folder.join(filter.name).with_extension("wasm");
        let bytes = std::fs::read(&module).with_context(|| module.display().to_string())?;
        let bytes = exports::keep(&bytes, filter.callbacks).with_context(|| filter.name)?;
        put(&bytes, &built(filter.name))?;
    }
    Ok(())
}

/// Writes a module. An unchanged one is left alone, so that its dependents are not run again; another one is replaced by a
/// rename, so that a running Envoy never reads half of it.
pub(crate) fn put(bytes: &[u8], place: &Path) -> Result<()> {
    if std::fs::read(place).is_ok_and(|found| found == bytes) {
        return Ok(());
    }
    let partial = place.with_extension("new");
    if let Some(folder) = place.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(&partial, bytes)?;
    std::fs::rename(&partial, place)?;
    let shown = place.strip_prefix(tree::root()).unwrap_or(place);
    say(&format!("{} ({} KiB)", shown.display(), bytes.len() / 1024));
    Ok(())
}
