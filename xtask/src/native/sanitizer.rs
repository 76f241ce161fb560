//! `cargo xtask native-sanitizer`: the tests of the dynamic module with the address sanitizer, which also finds leaks.

use anyhow::{Context as _, Result};

use crate::process::{command, output, run, say};

/// Test both forms side by side. The code of the wasm form is compiled at run time, where the sanitizer can't see it.
const SKIPPED: [&str; 2] = ["--skip", "tests::forms"];

/// Runs the tests.
///
/// # Errors
/// The tests do not build, one fails, or the sanitizer finds an error.
pub(crate) fn run_tests() -> Result<()> {
    let version = output(command("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.context("rustc does not name its host")?;
    say("building everything for the sanitizer, which takes minutes the first time");
    let mut cargo = command("cargo");
    // The sanitizer is part of every compiler, but only nightly ones accept the flag without this variable.
    cargo.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", "-Zsanitizer=address");
    // With an explicit target, build scripts and macros do not get the flag.
    cargo.args(["test", "--package", "sandgate-native", "--lib", "--target", host]);
    run(cargo.args(["--target-dir", "target/sanitizer", "--"]).args(SKIPPED))
}
