//! `cargo xtask bench`: builds the filters and the programs as users run them, and measures them.

use anyhow::Result;

use crate::process::{command, run, say};
use crate::{native, wasm};

/// Builds everything, and passes the options on to `sandgate-bench run`.
///
/// # Errors
/// Something does not build, or a measurement fails.
pub(crate) fn measure(options: &[String]) -> Result<()> {
    say("building the filters and the programs (release)");
    wasm::build()?;
    if let Err(error) = native::build() {
        say(&format!("the native form is not measured: {error:#}"));
    }
    let mut cargo = command("cargo");
    run(cargo.args([
        "build",
        "--release",
        "--package",
        "sandgate",
        "--package",
        "sandgate-bench",
    ]))?;
    run(command(crate::tree::target().join("release/sandgate-bench")).arg("run").args(options))
}
