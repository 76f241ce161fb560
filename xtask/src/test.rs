//! `cargo xtask test`: builds everything once, runs all tests, and says at the end what ran and what did not.
//!
//! The Rust tests run in `cargo nextest`, whose JUnit report is the source of their counts. The tests with Python clients
//! and generated API calls are programs that count themselves.

mod envoy;
mod nextest;
mod programs;
mod summary;

use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context as _, Result};

use self::envoy::Envoy;
use self::summary::{Counts, Summary};
use crate::process::{command, is_ci, output, say};
use crate::{native, tree, wasm};

const DESCRIPTION: &str = "public API, by its description";

/// Runs all tests. The exit code is a failure if one of them failed. In CI, all tests must run.
///
/// # Errors
/// The tests can't be built or started at all.
pub(crate) fn run() -> Result<ExitCode> {
    let begun = Instant::now();
    say("building the filters");
    wasm::build()
        .and_then(|()| native::build())
        .context("the filters do not build (the compiler's reason is above)")?;
    let envoy = Envoy::find()?;
    // Here, so that tests that run at the same time don't fetch it.
    output(command("scripts/envoy").arg("--oldest"))
        .context("the oldest supported Envoy is missing")?;
    let prepare = |command: &mut Command| {
        envoy.set(command);
        command.env("SANDGATE_FILTERS_DIR", tree::root().join("target/filters"));
    };
    say("building the programs and the tests");
    nextest::build(prepare).context("the tests do not build (the compiler's reason is above)")?;
    let built = Instant::now();

    let mut summary = Summary::default();
    say(&format!("running the tests; end to end, Envoy is a {}", envoy.way));
    nextest::run(&mut summary, prepare)?;
    let run_program = |summary: &mut Summary, group, program: &mut Command| {
        prepare(program);
        programs::run(summary, group, program.env("SANDGATE_PREBUILT", "1"))
    };
    run_program(&mut summary, "scripts", &mut command("tests/scripts/run"))?;
    run_program(&mut summary, "manifests, by their schemas", &mut command("scripts/manifests"))?;
    say("running the deployment kit");
    run_program(&mut summary, "deployment, manifests", &mut command("tests/deploy/manifests"))?;
    run_program(&mut summary, "deployment, compose.yaml", &mut command("tests/deploy/run"))?;
    say("calling the public API by its description");
    if is_ci() || crate::process::run(command("scripts/schemathesis").arg("--install")).is_ok() {
        run_program(&mut summary, DESCRIPTION, &mut command("scripts/schemathesis"))?;
    } else {
        let why = "schemathesis could not be installed (the reason is above)";
        summary.add(DESCRIPTION, Counts { not_run: 1, ..Counts::default() });
        summary.add_not_run(format!("{DESCRIPTION}: {why}"));
    }
    let tested = Instant::now();
    say("running `make run`, and every command that it prints");
    let own_run = &mut command("scripts/try");
    run_program(&mut summary, "make run, and what it prints", own_run.arg("--own"))?;
    let tried = Instant::now();
    say("running the clients that users have");
    run_program(&mut summary, "the real clients", &mut command("scripts/clients"))?;

    println!(
        "\nran (built in {} s, tested in {} s, tried in {} s, clients in {} s):",
        (built - begun).as_secs(),
        (tested - built).as_secs(),
        (tried - tested).as_secs(),
        tried.elapsed().as_secs()
    );
    if let Some(line) = envoy.not_run {
        summary.add_not_run(line);
    }
    println!("{summary}");
    let Counts { failed, not_run, .. } = summary.total();
    let is_complete = not_run == 0 || !is_ci();
    let is_stable = !summary.repeated_too_many();
    Ok(if failed == 0 && is_complete && is_stable { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
