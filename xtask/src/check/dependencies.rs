//! What some crates may be linked with.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

use super::Outcome;
use crate::process::{command, output};

/// The crates that only compute. The engines of the filters call no host, so the rule of `policy` applies to them as well.
const PURE_CRATES: [&str; 2] = ["sandgate-policy", "sandgate-engine"];

/// All that `policy` may be linked with. It decides, and does nothing else: no I/O, no clock, no runtime.
const POLICY_MAY_USE: &[&str] = &[
    "cfg-if",
    "cpufeatures",
    "equivalent",
    "hashbrown",
    "indexmap",
    "ipnet",
    "itoa",
    "libc",
    "memchr",
    "proc-macro2",
    "quote",
    "serde",
    "serde_core",
    "serde_derive",
    "serde_json",
    "sha2",
    "syn",
    "thiserror",
    "thiserror-impl",
    "unicode-ident",
    "zmij",
    // Dependencies of sha2.
    "block-buffer",
    "crypto-common",
    "digest",
    "generic-array",
    "hybrid-array",
    "typenum",
    "version_check",
    // Comparison in constant time, and wiping of secrets.
    "subtle",
    "zeroize",
];

/// `sandgate-sidecar` runs beside untrusted code: no control plane, no HTTP server, no database.
const SIDECAR_MAY_NOT_USE: &[&str] = &["sandgate", "axum", "rusqlite", "libsqlite3-sys"];

pub(super) fn policy() -> Result<Outcome> {
    for crate_name in PURE_CRATES {
        let mut new = linked_with(crate_name)?;
        new.retain(|package| {
            !PURE_CRATES.contains(&package.as_str()) && !POLICY_MAY_USE.contains(&package.as_str())
        });
        ensure!(
            new.is_empty(),
            "{crate_name} would be linked with {}; if that does no I/O and reads no clock, add it to POLICY_MAY_USE in {}",
            list(&new),
            file!()
        );
    }
    Ok(Outcome::Ok)
}

pub(super) fn sidecar() -> Result<Outcome> {
    let mut found = linked_with("sandgate-sidecar")?;
    found.retain(|package| SIDECAR_MAY_NOT_USE.contains(&package.as_str()));
    ensure!(
        found.is_empty(),
        "sandgate-sidecar would be linked with {}; it runs beside untrusted code, and needs neither a store nor an HTTP server",
        list(&found)
    );
    Ok(Outcome::Ok)
}

/// The packages that are linked into a package, and the package itself.
fn linked_with(package: &str) -> Result<BTreeSet<String>> {
    let mut tree = command("cargo");
    tree.args(["tree", "--package", package, "--edges", "normal", "--prefix", "none"]);
    let packages = output(tree.args(["--format", "{p}"]))?;
    Ok(packages
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect())
}

fn list(packages: &BTreeSet<String>) -> String {
    packages.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}
