//! The build of the dynamic module.

pub(crate) mod sanitizer;

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::process::{command, run};
use crate::{tree, wasm};

const MODULE: &str = "libsandgate_native.so";

/// Where the built module is, whatever cargo's target folder is.
pub(crate) fn built() -> PathBuf {
    tree::root().join("target/filters").join(MODULE)
}

/// Builds the module, and puts it where [`built`] says.
///
/// # Errors
/// The module does not build.
pub(crate) fn build() -> Result<()> {
    let mut cargo = command("cargo");
    run(cargo.args(["build", "--profile", "native", "--package", "sandgate-native"]))?;
    let module = tree::target().join("native").join(MODULE);
    let bytes = std::fs::read(&module).with_context(|| module.display().to_string())?;
    wasm::put(&bytes, &built())
}
