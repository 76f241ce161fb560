//! The build of the Envoy filters.

use anyhow::Result;

use crate::process::{command, run, say};

/// Builds the filters into `target/filters/`.
///
/// # Errors
/// The filters do not build.
pub(crate) fn build() -> Result<()> {
    say("building the filters");
    run(&mut command("scripts/wasm"))
}
