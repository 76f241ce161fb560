//! `cargo xtask bench` and `cargo xtask bench-fleet`: build the filters and the programs as users run them, and measure
//! them.

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
    run_bench("run", options)
}

/// Builds what a measurement of a fleet needs, and runs it. `part` is a command of `sandgate-bench`.
///
/// # Errors
/// Something does not build, or the measurement fails.
pub(crate) fn measure_fleet(part: &str, options: &[String]) -> Result<()> {
    say("building the filters and the programs (release)");
    if part == "propagation" {
        match std::env::var("SANDGATE_FILTERS").as_deref() {
            Ok("native") => native::build()?,
            _ => wasm::build()?,
        }
    }
    run_bench(part, options)
}

fn run_bench(part: &str, options: &[String]) -> Result<()> {
    let mut cargo = command("cargo");
    run(cargo.args([
        "build",
        "--release",
        "--package",
        "sandgate",
        "--package",
        "sandgate-bench",
    ]))?;
    run(command(crate::tree::target().join("release/sandgate-bench")).arg(part).args(options))
}
