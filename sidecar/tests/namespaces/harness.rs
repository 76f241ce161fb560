//! The test harness: `libtest-mimic` instead of the default one. Tests that can't run on a machine are ignored, with
//! the reason in brackets before their names. With `CI=true` they fail instead.

use std::process::{Command, ExitCode, Stdio};

use libtest_mimic::{Arguments, Trial};

use crate::tests::{TESTS, Test};

/// The programs that all tests run.
const PROGRAMS: [&str; 4] = ["ip", "nft", "dig", "python3"];

/// Runs the tests that the command line selects.
pub(crate) fn run() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // A test may start hundreds of lookups, and they have a deadline.
    arguments.test_threads = arguments.test_threads.or(Some(1));
    // A runner that starts one process for each test has listed this one as a test that can run.
    let must_run = std::env::var("CI").as_deref() == Ok("true")
        || (arguments.exact && !arguments.list && !arguments.ignored);
    let reason_to_skip = reason_to_skip();
    let trials = TESTS.iter().map(|test| {
        let missing = || test.needs.filter(|program| !have(program)).map(needs);
        trial(test, reason_to_skip.clone().or_else(missing), must_run)
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

/// Creates the test. If there is a reason to skip it, it fails if it must run, and is ignored otherwise.
fn trial(test: &Test, reason_to_skip: Option<String>, must_run: bool) -> Trial {
    let run = test.run;
    match reason_to_skip {
        None => Trial::test(test.name, move || {
            run();
            Ok(())
        }),
        Some(why) if must_run => Trial::test(test.name, move || Err(why.into())),
        Some(why) => Trial::test(test.name, || Err("ignored on this machine".into()))
            .with_ignored_flag(true)
            .with_kind(why),
    }
}

/// The reason why no test can run on this machine, if any.
fn reason_to_skip() -> Option<String> {
    let root = Command::new("id").arg("-u").output().is_ok_and(|out| out.stdout == b"0\n");
    if !root {
        return Some("needs root, for network namespaces".to_owned());
    }
    PROGRAMS.into_iter().find(|program| !have(program)).map(needs)
}

fn needs(program: &str) -> String {
    format!("needs {program}")
}

fn have(program: &str) -> bool {
    let mut look = Command::new("sh");
    look.args(["-c", &format!("command -v {program}")]).stdout(Stdio::null());
    look.status().is_ok_and(|status| status.success())
}
