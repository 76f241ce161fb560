//! The check of the documentation against the types of the settings.
//!
//! The tests are in the crates that own the types. Their names contain `documented`.

use std::process::Command;

use anyhow::{Result, ensure};

use super::Outcome;
use crate::process::{command, run};

/// The crates that have settings.
const CRATES: [&str; 4] =
    ["sandgate-policy", "sandgate-envoy-config", "sandgate", "sandgate-sidecar"];

pub(super) fn check() -> Result<Outcome> {
    let list = tests().arg("--list").output()?;
    let count = String::from_utf8_lossy(&list.stdout)
        .lines()
        .filter(|line| line.ends_with(": test"))
        .count();
    // cargo succeeds if no test has such a name.
    ensure!(
        !list.status.success() || count >= CRATES.len(),
        "expected at least one test with `documented` in its name for each of {CRATES:?}, found {count}"
    );
    run(&mut tests())?;
    Ok(Outcome::Ok)
}

/// Runs the tests of all crates in one call, because another choice of packages would build them again.
fn tests() -> Command {
    let mut test = command("cargo");
    test.args(["test", "--quiet", "--lib", "--tests"]);
    for package in CRATES {
        test.args(["--package", package]);
    }
    test.args(["documented", "--"]);
    test
}
