//! The test harness: `libtest-mimic` instead of the default one. Tests that can't run on a machine are ignored, with
//! the reason in brackets before their names. With `CI=true` they fail instead.

use std::process::{Command, ExitCode, Stdio};

use libtest_mimic::Arguments;

use crate::tests::TESTS;
use crate::trial::trial;

/// The programs that all tests run.
const PROGRAMS: [&str; 4] = ["ip", "nft", "dig", "python3"];

/// Runs the tests that the command line selects.
pub(crate) fn run() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // A test may start hundreds of lookups, and they have a deadline.
    arguments.test_threads = arguments.test_threads.or(Some(1));
    let reason_to_skip = reason_to_skip();
    let trials = TESTS.iter().map(|test| {
        let missing = || test.needs.filter(|program| !have(program)).map(needs);
        let run = test.run;
        trial(&arguments, test.name, reason_to_skip.clone().or_else(missing), move || {
            run();
            Ok(())
        })
    });
    let trials = trials.collect();
    libtest_mimic::run(&arguments, trials).exit_code()
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
