//! The checks that a tool does: cargo, rustfmt, clippy, rustdoc, cargo-deny.

use std::io::Write as _;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::Outcome;
use crate::process::{command, run};

/// The crates that are linked into a filter.
const FILTER_CRATES: [&str; 5] = [
    "sandgate-policy",
    "sandgate-hostcalls",
    "sandgate-engine",
    "sandgate-ingress",
    "sandgate-egress",
];

pub(super) fn lock() -> Result<Outcome> {
    let mut metadata = cargo(&["metadata", "--locked", "--format-version", "1"]);
    let done = metadata.output().context("cargo can't be started")?;
    if !done.status.success() {
        std::io::stderr().write_all(&done.stderr)?;
        bail!("Cargo.lock is not up to date; run `cargo check` and commit it");
    }
    Ok(Outcome::Ok)
}

pub(super) fn format() -> Result<Outcome> {
    check(&mut cargo(&["fmt", "--all", "--check"]))
}

pub(super) fn licences() -> Result<Outcome> {
    check(&mut deny(&["bans", "licenses", "sources"]))
}

/// The advisories come from a server, and not all machines can reach it.
pub(super) fn advisories() -> Result<Outcome> {
    let deny = deny(&["advisories"]);
    let mut limited = command("timeout");
    limited.arg("120").arg(deny.get_program()).args(deny.get_args());
    let done = limited.output().context("`timeout` can't be started")?;
    if done.status.code() == Some(124) {
        let reason = "the advisory database could not be fetched within 120 s";
        return Ok(Outcome::NotRun(reason.to_owned()));
    }
    let said = [done.stdout, done.stderr].concat();
    if done.status.success() {
        return Ok(Outcome::Ok);
    }
    if String::from_utf8_lossy(&said).contains("failed to fetch advisory database") {
        let reason = "the advisory database can't be reached from here";
        return Ok(Outcome::NotRun(reason.to_owned()));
    }
    std::io::stderr().write_all(&said)?;
    bail!("a dependency has a known vulnerability, or was yanked");
}

pub(super) fn clippy() -> Result<Outcome> {
    check(&mut cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

pub(super) fn clippy_wasm() -> Result<Outcome> {
    let mut clippy = command("scripts/wasm-cargo");
    clippy.arg("clippy");
    for package in FILTER_CRATES {
        clippy.args(["--package", package]);
    }
    check(clippy.args(["--", "-D", "warnings"]))
}

pub(super) fn docs() -> Result<Outcome> {
    let mut doc = cargo(&["doc", "--workspace", "--no-deps"]);
    check(doc.env("RUSTDOCFLAGS", "-D warnings"))
}

fn cargo(arguments: &[&str]) -> Command {
    let mut cargo = command("cargo");
    cargo.args(arguments);
    cargo
}

fn deny(checks: &[&str]) -> Command {
    let mut deny = cargo(&["deny", "--log-level", "error", "check"]);
    deny.args(checks);
    deny
}

fn check(command: &mut Command) -> Result<Outcome> {
    run(command).map(|()| Outcome::Ok)
}
