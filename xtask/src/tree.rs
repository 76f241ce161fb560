//! The folders that the commands work with.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The root folder of the tree.
pub(crate) fn root() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package)
}

/// The folder of downloads and installed tools: `.cache`, or `SANDGATE_CACHE_DIR`.
pub(crate) fn cache() -> PathBuf {
    match std::env::var_os("SANDGATE_CACHE_DIR").filter(|folder| !folder.is_empty()) {
        Some(folder) => PathBuf::from(folder),
        None => root().join(".cache"),
    }
}

/// Cargo's target folder.
pub(crate) fn target() -> PathBuf {
    let folder = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    root().join(folder)
}

/// `PATH` with the folder of the installed tools at its end.
pub(crate) fn search_path() -> OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":");
    path.push(cache().join("tools/bin"));
    path
}
