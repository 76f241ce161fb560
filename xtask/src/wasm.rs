//! The build of the Envoy filters.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::process::{command, run, say};
use crate::tree;

/// The filters, as the names of their modules.
const FILTERS: [&str; 2] = ["sandgate_ingress", "sandgate_egress"];

/// Where a built filter is, whatever cargo's target folder is.
pub(crate) fn built(filter: &str) -> PathBuf {
    tree::root().join("target/filters").join(filter).with_extension("wasm")
}

/// Builds the filters, and puts them where [`built`] says.
///
/// # Errors
/// The filters do not build.
pub(crate) fn build() -> Result<()> {
    let mut cargo = command("scripts/wasm-cargo");
    cargo.args(["build", "--profile", "wasm"]);
    run(cargo.args(["--package", "sandgate-ingress", "--package", "sandgate-egress"]))?;
    let folder = tree::target().join("wasm32-unknown-unknown/wasm");
    for filter in FILTERS {
        put(&folder.join(filter).with_extension("wasm"), &built(filter))?;
    }
    Ok(())
}

/// Copies a module. An unchanged one is left alone, so that its dependents are not run again; another one is replaced by a
/// rename, so that a running Envoy never reads half of it.
pub(crate) fn put(module: &Path, place: &Path) -> Result<()> {
    let bytes = std::fs::read(module).with_context(|| module.display().to_string())?;
    if std::fs::read(place).is_ok_and(|found| found == bytes) {
        return Ok(());
    }
    let partial = place.with_extension("new");
    if let Some(folder) = place.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(&partial, &bytes)?;
    std::fs::rename(&partial, place)?;
    let shown = place.strip_prefix(tree::root()).unwrap_or(place);
    say(&format!("{} ({} KiB)", shown.display(), bytes.len() / 1024));
    Ok(())
}
