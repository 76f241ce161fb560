//! The test harness, and helpers that several files share.
//!
//! The harness is `libtest-mimic` instead of the default one: tests that can't run on a machine are ignored, with the
//! reason in brackets before their names. With `CI=true` they fail instead.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use libtest_mimic::{Arguments, Failed};
use sandgate_egress_tests::{Outcome, Rig, Setup, Sidecar, Spent, containers, rig};
use serde_json::Value;

use crate::trial::trial;

/// A test and its name.
pub(crate) struct Test {
    pub(crate) name: &'static str,
    pub(crate) run: fn() -> Result<()>,
}

/// Declares the tests of a file.
macro_rules! tests {
    ($($name:ident),+ $(,)?) => {
        pub(crate) const TESTS: &[crate::support::Test] = &[$(crate::support::Test {
            name: concat!(module_path!(), "::", stringify!($name)),
            run: $name,
        }),+];
    };
}
pub(crate) use tests;

/// The time within which a refusal must arrive, which is shorter than any timeout.
pub(crate) const REFUSAL_TIME: Duration = Duration::from_millis(200);
/// The number of attempts, because a busy machine may delay some. An attempt that ends by a timeout is slow each time.
const ATTEMPTS: usize = 5;

/// Builds a rig, and starts a sidecar with this policy.
pub(crate) fn with(policy: Value) -> Result<(Rig, Sidecar)> {
    with_setup(&Setup::new(policy))
}

/// Builds a rig, and starts a sidecar with this setup.
pub(crate) fn with_setup(setup: &Setup) -> Result<(Rig, Sidecar)> {
    let rig = Rig::build()?;
    let sidecar = Sidecar::start(&rig, setup)?;
    Ok((rig, sidecar))
}

/// Ensures that an attempt is refused each time, and immediately.
pub(crate) fn refused_immediately(what: &str, attempt: impl Fn() -> Result<Spent>) -> Result<()> {
    is_immediate(what, || {
        let spent = attempt()?;
        ensure!(spent.outcome.is_refused(), "{what}: {:?}", spent.outcome);
        Ok(spent.time)
    })
}

/// Ensures that the fastest of several attempts is immediate.
pub(crate) fn is_immediate(what: &str, attempt: impl Fn() -> Result<Duration>) -> Result<()> {
    let mut best = Duration::MAX;
    for _ in 0..ATTEMPTS {
        best = best.min(attempt()?);
        if best <= REFUSAL_TIME {
            return Ok(());
        }
    }
    anyhow::bail!("{what}: {best:?} at best, of {ATTEMPTS} attempts")
}

/// Ensures that the attempt got this response.
pub(crate) fn is_answered_with(what: &str, spent: &Spent, expected: &[u8]) -> Result<()> {
    match &spent.outcome {
        Outcome::Answered(bytes) if bytes == expected => Ok(()),
        other => {
            anyhow::bail!("{what}: expected {:?}, got {other:?}", String::from_utf8_lossy(expected))
        }
    }
}

/// Runs the tests that the command line selects. Those of `in_containers` require a container engine, too.
pub(crate) fn run(files: &[&[Test]], in_containers: &[Test]) -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Two at a time: the tests mostly wait, but they measure the time of refusals.
    arguments.test_threads = arguments.test_threads.or(Some(2));
    let no_namespaces = rig::obstacle();
    let no_containers = no_namespaces.clone().or_else(containers::obstacle);
    let trial = |test: &Test, obstacle: &Option<String>| {
        let run = test.run;
        trial(&arguments, test.name, obstacle.clone(), move || {
            run().map_err(|error| Failed::from(format!("{error:#}")))
        })
    };
    let tests = files.iter().copied().flatten().map(|test| trial(test, &no_namespaces));
    let in_containers = in_containers.iter().map(|test| trial(test, &no_containers));
    let trials = tests.chain(in_containers).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// The exit code of a process that the tests have started.
pub(crate) fn exit(done: Result<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs `dig` in the sandbox with this server, and returns its output.
pub(crate) fn dig(rig: &Rig, server: std::net::IpAddr, asked: &[&str]) -> Result<String> {
    let server = format!("@{server}");
    let mut arguments = vec![server.as_str(), "+tries=1", "+time=5"];
    arguments.extend(asked);
    rig.sandbox.run("dig", &arguments)
}

/// Runs `curl` in the sandbox, and returns its output. It trusts the rig's certificates. An error contains its
/// messages.
pub(crate) fn curl(rig: &Rig, arguments: &[&str]) -> Result<String> {
    let trusted = rig.folder().join("trusted.pem");
    std::fs::write(&trusted, rig.served.certificate())?;
    let mut command = rig.client(sandgate_egress_tests::sidecar::RESOLVER, "curl")?;
    command.args(["-sS", "-m", "20", "--cacert"]).arg(trusted).args(arguments);
    sandgate_egress_tests::netns::output(&mut command)
}
