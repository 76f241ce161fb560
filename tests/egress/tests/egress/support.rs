//! Runs the tests and tells of them as `cargo test` does, so that whoever counts can count.

use std::collections::VecDeque;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, ensure};
use sandgate_egress_tests::containers::NoEngine;
use sandgate_egress_tests::{Outcome, Rig, Setup, Sidecar, Spent};
use serde_json::Value;

/// A test: a sentence, and what shows that it is true.
pub(crate) struct Test {
    pub(crate) name: &'static str,
    pub(crate) holds: fn() -> Result<()>,
}

/// The tests of a file.
macro_rules! tests {
    ($($name:ident),+ $(,)?) => {
        /// What this file shows.
        pub(crate) const TESTS: &[crate::support::Test] = &[$(crate::support::Test {
            name: concat!(module_path!(), "::", stringify!($name)),
            holds: $name,
        }),+];
    };
}
pub(crate) use tests;

/// How fast a refusal is: within this time, and not by a time-out.
pub(crate) const AT_ONCE: Duration = Duration::from_millis(200);
/// How often a client tries where something else on the machine may have held it up. What waits for a time-out is
/// slow each time.
const ATTEMPTS: usize = 5;

/// A rig with a sidecar that is ready.
pub(crate) fn with(policy: Value) -> Result<(Rig, Sidecar)> {
    with_setup(&Setup::new(policy))
}

/// The same with more than a policy.
pub(crate) fn with_setup(setup: &Setup) -> Result<(Rig, Sidecar)> {
    let rig = Rig::build()?;
    let sidecar = Sidecar::start(&rig, setup)?;
    Ok((rig, sidecar))
}

/// It is refused each time, and not by a client's patience coming to its end.
pub(crate) fn refused_at_once(what: &str, attempt: impl Fn() -> Result<Spent>) -> Result<()> {
    at_once(what, || {
        let spent = attempt()?;
        ensure!(spent.outcome.is_refused(), "{what}: {:?}", spent.outcome);
        Ok(spent.time)
    })
}

/// What is done takes no longer than a refusal may: the best of a few attempts.
pub(crate) fn at_once(what: &str, attempt: impl Fn() -> Result<Duration>) -> Result<()> {
    let mut best = Duration::MAX;
    for _ in 0..ATTEMPTS {
        best = best.min(attempt()?);
        if best <= AT_ONCE {
            return Ok(());
        }
    }
    anyhow::bail!("{what}: {best:?} at best, of {ATTEMPTS} attempts")
}

/// It was answered, and with this.
pub(crate) fn answered_with(what: &str, spent: &Spent, expected: &[u8]) -> Result<()> {
    match &spent.outcome {
        Outcome::Answered(bytes) if bytes == expected => Ok(()),
        other => {
            anyhow::bail!("{what}: expected {:?}, got {other:?}", String::from_utf8_lossy(expected))
        }
    }
}

/// Runs those whose names contain one of the words of the command line; all, where there is none.
pub(crate) fn run(files: &[&[Test]]) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&String> = arguments.iter().filter(|word| !word.starts_with('-')).collect();
    let wanted =
        |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word.as_str()));
    let tests = files.iter().flat_map(|file| file.iter()).filter(|test| wanted(test.name));
    let tests: Vec<&Test> = tests.collect();
    if arguments.iter().any(|argument| argument == "--list") {
        tests.iter().for_each(|test| println!("{}: test", test.name));
        return ExitCode::SUCCESS;
    }
    println!("\nrunning {} tests", tests.len());
    let count = tests.len();
    // In CI everything is there: not to run is to fail.
    let all_must_run = std::env::var("CI").as_deref() == Ok("true");
    if let Some(why) = sandgate_egress_tests::rig::obstacle() {
        tests.iter().for_each(|test| println!("test {} ... ignored, {why}", test.name));
        return summary(0, 0, count, all_must_run);
    }
    let queue = Mutex::new(VecDeque::from(tests));
    let failed = Mutex::new(Vec::new());
    let ignored = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..side_by_side() {
            scope.spawn(|| {
                while let Some(test) = locked(&queue).pop_front() {
                    let done = catch_unwind(AssertUnwindSafe(test.holds));
                    let why = match done {
                        Ok(Ok(())) => None,
                        Ok(Err(error)) if error.is::<NoEngine>() => {
                            println!("test {} ... ignored, {error}", test.name);
                            ignored.fetch_add(1, Ordering::Relaxed);
                            continue;
                        }
                        Ok(Err(error)) => Some(format!("{error:#}")),
                        Err(_) => Some("it panicked (see above)".to_owned()),
                    };
                    let mut failed = locked(&failed);
                    println!(
                        "test {} ... {}",
                        test.name,
                        if why.is_none() { "ok" } else { "FAILED" }
                    );
                    drop(std::io::stdout().flush());
                    failed.extend(why.map(|why| (test.name, why)));
                }
            });
        }
    });
    sandgate_egress_tests::sidecar::clean_up();
    let failed = locked(&failed);
    for (name, why) in failed.iter() {
        println!("\n---- {name}\n{why}");
    }
    let ignored = ignored.into_inner();
    summary(count - failed.len() - ignored, failed.len(), ignored, all_must_run && ignored > 0)
}

/// How a process ends that the tests have started.
pub(crate) fn exit(done: Result<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn summary(passed: usize, failed: usize, ignored: usize, must_run: bool) -> ExitCode {
    let good = failed == 0 && !must_run;
    let word = if good { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {word}. {passed} passed; {failed} failed; {ignored} ignored; 0 measured; 0 filtered out\n"
    );
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// How many at a time: `RUST_TEST_THREADS`, else a few. They mostly wait, but refusals are timed.
fn side_by_side() -> usize {
    std::env::var("RUST_TEST_THREADS").ok().and_then(|text| text.parse().ok()).unwrap_or(2)
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What `dig` says, asking a server from the sandbox.
pub(crate) fn dig(rig: &Rig, server: std::net::IpAddr, asked: &[&str]) -> Result<String> {
    let server = format!("@{server}");
    let mut arguments = vec![server.as_str(), "+tries=1", "+time=5"];
    arguments.extend(asked);
    rig.sandbox.run("dig", &arguments)
}

/// What `curl` gets in the sandbox; an error has what it says. It trusts the rig's certificates.
pub(crate) fn curl(rig: &Rig, arguments: &[&str]) -> Result<String> {
    let trusted = rig.folder().join("trusted.pem");
    std::fs::write(&trusted, rig.served.certificate())?;
    let mut command = rig.client(sandgate_egress_tests::sidecar::RESOLVER, "curl")?;
    command.args(["-sS", "-m", "20", "--cacert"]).arg(trusted).args(arguments);
    sandgate_egress_tests::netns::output(&mut command)
}
