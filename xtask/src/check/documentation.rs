//! The check of the documentation against the types of the settings.
//!
//! The tests are in the crates that own the types. Their names contain `documented`.

use anyhow::Result;

use super::Outcome;
use crate::process::{command, run};

/// The crates that have settings.
const CRATES: [&str; 4] =
    ["sandgate-policy", "sandgate-envoy-config", "sandgate", "sandgate-sidecar"];

pub(super) fn check() -> Result<Outcome> {
    let mut test = command("cargo");
    test.args(["test", "--quiet", "--lib", "--tests"]);
    for package in CRATES {
        test.args(["--package", package]);
    }
    run(test.arg("documented"))?;
    Ok(Outcome::Ok)
}
