//! The counts of a whole test run, the tests that did not run, and those that passed only when they were repeated.

use std::collections::BTreeMap;
use std::fmt;

/// The results of one group of tests.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) not_run: u64,
}

impl Counts {
    /// The counts of a group that ended without a report.
    pub(crate) const NO_REPORT: Self = Self { passed: 0, failed: 1, not_run: 0 };

    /// The same, with at least one failure unless the program that ran the tests succeeded.
    #[must_use]
    pub(crate) fn with_exit(mut self, success: bool) -> Self {
        if !success {
            self.failed = self.failed.max(1);
        }
        self
    }
}

/// The results of all groups. Its `Display` is the end of the output of `make test`.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    groups: BTreeMap<String, Counts>,
    not_run: Vec<String>,
    repeated: Vec<String>,
}

/// The number of tests that may pass only when they are repeated. More of them are a fault of the product, of the tests, or of
/// the machine.
const REPEATED_AT_MOST: usize = 3;

impl Summary {
    /// Adds results to a group.
    pub(crate) fn add(&mut self, group: &str, counts: Counts) {
        let sum = self.groups.entry(group.to_owned()).or_default();
        sum.passed += counts.passed;
        sum.failed += counts.failed;
        sum.not_run += counts.not_run;
    }

    /// Names tests that did not run, and why. The same line appears once.
    pub(crate) fn add_not_run(&mut self, line: String) {
        if !self.not_run.contains(&line) {
            self.not_run.push(line);
        }
    }

    /// Names a test that failed, and passed when it was repeated.
    pub(crate) fn add_repeated(&mut self, line: String) {
        self.repeated.push(line);
    }

    /// Whether so many tests passed only when they were repeated that the run has failed.
    pub(crate) fn repeated_too_many(&self) -> bool {
        self.repeated.len() > REPEATED_AT_MOST
    }

    /// The sum of all groups.
    pub(crate) fn total(&self) -> Counts {
        self.groups.values().fold(Counts::default(), |sum, counts| Counts {
            passed: sum.passed + counts.passed,
            failed: sum.failed + counts.failed,
            not_run: sum.not_run + counts.not_run,
        })
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (group, counts) in &self.groups {
            let Counts { passed, failed, not_run } = counts;
            write!(formatter, "  {group:<40} {passed:5} passed {failed:3} failed")?;
            if *not_run > 0 {
                write!(formatter, " {not_run:3} not run")?;
            }
            writeln!(formatter)?;
        }
        if !self.repeated.is_empty() {
            writeln!(formatter, "passed only when repeated:")?;
        }
        for line in &self.repeated {
            writeln!(formatter, "  {line}")?;
        }
        if self.repeated_too_many() {
            writeln!(formatter, "  these are more than {REPEATED_AT_MOST}, so the run has failed")?;
        }
        writeln!(formatter, "not run:")?;
        if self.not_run.is_empty() {
            writeln!(formatter, "  nothing was left out")?;
        }
        for line in &self.not_run {
            writeln!(formatter, "  {line}")?;
        }
        let Counts { passed, failed, not_run } = self.total();
        write!(formatter, "{passed} passed, {failed} failed, {not_run} skipped")
    }
}

#[cfg(test)]
mod tests {
    use super::{Counts, REPEATED_AT_MOST, Summary};

    #[test]
    fn the_last_line_counts_all_groups_and_the_tests_that_did_not_run_are_named() {
        let mut summary = Summary::default();
        summary.add("policy", Counts { passed: 3, failed: 0, not_run: 0 });
        summary.add("policy", Counts { passed: 1, failed: 1, not_run: 0 });
        summary.add("tests/egress", Counts { passed: 0, failed: 0, not_run: 7 });
        summary.add_not_run("tests/egress: all (no root)".to_owned());
        summary.add_not_run("tests/egress: all (no root)".to_owned());
        let text = summary.to_string();
        assert!(
            text.contains("policy                                       4 passed   1 failed\n")
        );
        assert!(
            text.ends_with(
                "not run:\n  tests/egress: all (no root)\n4 passed, 1 failed, 7 skipped"
            )
        );
    }

    #[test]
    fn a_run_with_many_repeated_tests_has_failed() {
        let mut summary = Summary::default();
        for number in 0..REPEATED_AT_MOST {
            summary.add_repeated(format!("tests/e2e: test {number}"));
        }
        assert!(!summary.repeated_too_many());
        summary.add_repeated("tests/e2e: one more".to_owned());
        assert!(summary.repeated_too_many());
        let text = summary.to_string();
        let end = "  tests/e2e: one more\n  these are more than 3, so the run has failed\n";
        assert!(text.contains(end), "{text}");
    }

    #[test]
    fn a_program_that_fails_without_a_failed_test_counts_as_a_failure() {
        let counts = Counts { passed: 5, failed: 0, not_run: 0 };
        assert_eq!(counts.with_exit(false).failed, 1);
        assert_eq!(counts.with_exit(true), counts);
        assert_eq!(Counts { failed: 3, ..counts }.with_exit(false).failed, 3);
    }
}
