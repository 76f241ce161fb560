//! Runs the tests, and tells of them as `cargo test` does.

use std::panic::catch_unwind;
use std::process::{Command, ExitCode, Stdio};

use crate::promises::PROMISES;

/// What the tests run besides themselves.
const PROGRAMS: [&str; 4] = ["ip", "nft", "dig", "python3"];

/// Runs the tests whose names contain one of the words that are no options.
pub(crate) fn run(arguments: &[&str]) -> ExitCode {
    let words: Vec<_> = arguments.iter().filter(|word| !word.starts_with('-')).collect();
    let wanted = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(**word));
    let chosen: Vec<_> = PROMISES.iter().filter(|promise| wanted(promise.name)).collect();
    if arguments.contains(&"--list") {
        chosen.iter().for_each(|promise| println!("{}: test", promise.name));
        return ExitCode::SUCCESS;
    }
    println!("\nrunning {} tests", chosen.len());
    let missing = missing();
    let (mut passed, mut failed, mut ignored) = (0, 0, 0);
    for promise in &chosen {
        let why = missing.clone().or_else(|| {
            let needs = promise.needs.filter(|program| !have(program))?;
            Some(format!("needs {needs}"))
        });
        if let Some(why) = why {
            println!("test {} ... ignored, {why}", promise.name);
            ignored += 1;
        } else if catch_unwind(promise.holds).is_ok() {
            println!("test {} ... ok", promise.name);
            passed += 1;
        } else {
            println!("test {} ... FAILED", promise.name);
            failed += 1;
        }
    }
    // In CI everything is there: not to run is to fail.
    let good = failed == 0 && (ignored == 0 || std::env::var("CI").as_deref() != Ok("true"));
    let word = if good { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {word}. {passed} passed; {failed} failed; {ignored} ignored; 0 measured; 0 filtered out\n"
    );
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Why no test can run here.
fn missing() -> Option<String> {
    let root = Command::new("id").arg("-u").output().is_ok_and(|out| out.stdout == b"0\n");
    if !root {
        return Some("needs root, for network namespaces".to_owned());
    }
    let program = PROGRAMS.into_iter().find(|program| !have(program))?;
    Some(format!("needs {program}"))
}

fn have(program: &str) -> bool {
    let mut look = Command::new("sh");
    look.args(["-c", &format!("command -v {program}")]).stdout(Stdio::null());
    look.status().is_ok_and(|status| status.success())
}
