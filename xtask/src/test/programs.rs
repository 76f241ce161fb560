//! The tests that are programs of their own, in Python: each ends with a line that counts its results.
//!
//! `NAME: 3 passed, 1 failed` or `NAME: 3 passed, 0 failed, 2 not run`. Lines `not run: TESTS (REASON)` name the tests that
//! did not run.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use super::summary::{Counts, Summary};

/// Runs such a program with its output shown, and adds its results to a group of the summary. Most of these programs wait for a
/// real Envoy in real time, so a program that fails runs once more, and the summary names it if it passes then.
///
/// # Errors
/// The program can't be started, or its output can't be read.
pub(super) fn run(summary: &mut Summary, group: &str, program: &mut Command) -> Result<()> {
    let mut results = run_once(program)?;
    let failed = results.counts.failed;
    if failed > 0 {
        println!("==> {group}: {failed} failed; running the whole program once more");
        results = run_once(program)?;
        if results.counts.failed == 0 {
            summary.add_repeated(format!(
                "{group}: the whole program, {failed} failed in its first run"
            ));
        }
    }
    for line in results.not_run {
        summary.add_not_run(line);
    }
    summary.add(group, results.counts);
    Ok(())
}

fn run_once(program: &mut Command) -> Result<Results> {
    let mut child = program
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("{} can't be started", crate::process::name(program)))?;
    let mut results = Results { counts: Counts::NO_REPORT, not_run: Vec::new() };
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line?;
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            results.read(&line);
        }
    }
    results.counts = results.counts.with_exit(child.wait()?.success());
    Ok(results)
}

#[derive(Debug, Eq, PartialEq)]
struct Results {
    /// The counts of the last line that has counts: a program may count its parts before it counts all of them.
    counts: Counts,
    not_run: Vec<String>,
}

impl Results {
    fn read(&mut self, line: &str) {
        if let Some(tests) = line.strip_prefix("not run: ") {
            self.not_run.push(tests.to_owned());
        } else if let Some(counts) = counts(line) {
            self.counts = counts;
        }
    }
}

/// The counts of a line such as `clients, in 9 s: 1 passed, 0 failed, 1 not run`.
fn counts(line: &str) -> Option<Counts> {
    let (_, counts) = line.rsplit_once(": ")?;
    let mut parts = counts.split(", ");
    let passed = number(parts.next()?, " passed")?;
    let failed = number(parts.next()?, " failed")?;
    let not_run = match parts.next() {
        Some(part) => number(part, " not run")?,
        None => 0,
    };
    parts.next().is_none().then_some(Counts { passed, failed, not_run })
}

fn number(part: &str, unit: &str) -> Option<u64> {
    part.strip_suffix(unit)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::{Counts, run};
    use crate::test::summary::Summary;

    fn results(script: &str) -> (Counts, String) {
        let mut summary = Summary::default();
        run(&mut summary, "clients", Command::new("sh").args(["-c", script])).unwrap();
        (summary.total(), summary.to_string())
    }

    #[test]
    fn the_last_line_that_counts_is_the_result_and_tests_that_did_not_run_are_named() {
        let (counts, summary) = results(
            "echo '  ok     3 ms  local: curl: works'
             echo 'clients, local mode: 1 passed, 0 failed, 0 not run'
             echo 'not run: cloud: all of its tests (no unshare)'
             echo 'clients, in 9 s: 1 passed, 0 failed, 1 not run'",
        );
        assert_eq!(counts, Counts { passed: 1, failed: 0, not_run: 1 });
        assert!(summary.contains("\n  cloud: all of its tests (no unshare)\n"), "{summary}");
    }

    #[test]
    fn a_program_that_ends_without_a_count_has_failed() {
        for script in ["echo 'error: there is no Envoy'; exit 1", "true"] {
            assert_eq!(results(script).0, Counts::NO_REPORT, "{script}");
        }
    }

    #[test]
    fn a_program_that_counts_no_failure_and_fails_has_failed() {
        let (counts, _) = results("echo 'x: 5 passed, 0 failed'; exit 1");
        assert_eq!(counts, Counts { passed: 5, failed: 1, not_run: 0 });
    }

    #[test]
    fn a_program_that_passes_when_it_runs_once_more_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let script = format!(
            "cd {}; if [ -e second ]; then echo 'x: 2 passed, 0 failed'; else >second; echo 'x: 1 passed, 1 failed'; exit 1; fi",
            folder.path().display()
        );
        let (counts, summary) = results(&script);
        assert_eq!(counts, Counts { passed: 2, failed: 0, not_run: 0 });
        let named = "\npassed only when repeated:\n  clients: the whole program, 1 failed in its first run\n";
        assert!(summary.contains(named), "{summary}");
    }

    #[test]
    fn a_line_that_only_looks_like_a_count_is_none() {
        for line in
            ["x: 5 passed", "x: five passed, 0 failed", "x: 1 passed, 0 failed, 1 not run, more"]
        {
            assert_eq!(super::counts(line), None, "{line}");
        }
    }
}
