//! The Rust tests: `cargo nextest` runs them, and its JUnit report says which of them ran.
//!
//! nextest does not run the examples in the documentation. `cargo test --doc` does.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use roxmltree::Document;
use serde_json::Value;

use super::summary::{Counts, Summary};
use crate::process::{self, command};
use crate::tree;

/// Where `.config/nextest.toml` puts the report.
const REPORT: &str = "target/nextest/default/junit.xml";
/// The package of the end-to-end tests.
const E2E: &str = "sandgate-e2e";
/// The package of the tests of the egress path.
const EGRESS: &str = "sandgate-egress-tests";
/// The group of the examples in the documentation.
const EXAMPLES: &str = "examples in the documentation";
/// The filters' modules, which can't have such examples.
const NO_EXAMPLES: [&str; 6] = [
    "--exclude",
    "sandgate-ingress",
    "--exclude",
    "sandgate-egress",
    "--exclude",
    "sandgate-native",
];

/// Builds all programs and tests, so that a failure to build is no test result.
///
/// # Errors
/// They do not build.
pub(super) fn build(prepare: impl Fn(&mut Command)) -> Result<()> {
    let mut cargo = command("cargo");
    cargo.args(["build", "--workspace", "--all-targets"]);
    prepare(&mut cargo);
    process::run(&mut cargo)
}

/// The end-to-end tests that depend on how the edge finds the upstream host.
const UPSTREAM_TESTS: &str = "test(/^(black_hole|restored_destination|generations|grpc|websocket|\
    websocket_http2|retries|envoy_responses|streaming|responses|resume|closing)::/)";

/// All but the end-to-end tests that replace the filter by another wasm module, and those of the ways to install the wasm module.
const NATIVE_TESTS: &str = "not (test(/_wasm_filter_/) or binary(install))";

/// Runs all Rust tests, and adds their results to the summary.
///
/// # Errors
/// The workspace's packages can't be listed, or a test program can't be started.
pub(super) fn run(summary: &mut Summary, prepare: impl Fn(&mut Command)) -> Result<()> {
    let folders = package_folders()?;
    run_reported(summary, &folders, |nextest| {
        nextest.arg("--workspace");
        prepare(nextest);
    })?;
    let original_dst = BTreeMap::from([(E2E.to_owned(), "tests/e2e with original_dst".to_owned())]);
    run_reported(summary, &original_dst, |nextest| {
        nextest.args(["--package", E2E, "--filterset", UPSTREAM_TESTS]);
        prepare(nextest.env("SANDGATE_E2E_UPSTREAM", "original_dst"));
    })?;
    let native = BTreeMap::from([
        (E2E.to_owned(), "tests/e2e with the native filter".to_owned()),
        (EGRESS.to_owned(), "tests/egress with the native filter".to_owned()),
    ]);
    run_reported(summary, &native, |nextest| {
        nextest.args(["--package", E2E, "--package", EGRESS, "--filterset", NATIVE_TESTS]);
        prepare(nextest.env("SANDGATE_FILTERS", "native"));
    })?;
    run_examples(summary, prepare)
}

/// Runs nextest once, and adds the results of its report.
fn run_reported(
    summary: &mut Summary,
    folders: &BTreeMap<String, String>,
    configure: impl Fn(&mut Command),
) -> Result<()> {
    let report = tree::root().join(REPORT);
    // The report of an earlier run must not be taken for this one's.
    if report.exists() {
        std::fs::remove_file(&report).with_context(|| format!("{}", report.display()))?;
    }
    let mut nextest = command("cargo");
    nextest.args(["nextest", "run"]);
    configure(&mut nextest);
    let success = nextest.status().context("cargo nextest can't be started")?.success();
    match read(&report).and_then(|text| add_report(summary, &text, folders)) {
        Ok(failed) if failed == 0 && !success => {
            summary.add("cargo nextest", Counts::default().with_exit(false));
        }
        Ok(_) => {}
        Err(error) => {
            eprintln!("error: {error:#}");
            summary.add("cargo nextest", Counts::NO_REPORT);
        }
    }
    Ok(())
}

fn read(report: &Path) -> Result<String> {
    std::fs::read_to_string(report)
        .with_context(|| format!("cargo nextest left no report in {}", report.display()))
}

/// Adds the results of a JUnit report; the number of failed tests.
fn add_report(
    summary: &mut Summary,
    report: &str,
    folders: &BTreeMap<String, String>,
) -> Result<u64> {
    let document = Document::parse(report).context("the report of cargo nextest")?;
    let mut failures = 0;
    let suites = document.descendants().filter(|node| node.has_tag_name("testsuite"));
    for suite in suites {
        // A program's name is `package` or `package::program`.
        let program = suite.attribute("name").context("a test suite without a name")?;
        let package = program.split("::").next().unwrap_or(program);
        let group = folders.get(package).map_or(package, String::as_str);
        let mut counts = Counts::default();
        for case in suite.children().filter(|node| node.has_tag_name("testcase")) {
            let has = |tag| case.children().any(|node| node.has_tag_name(tag));
            if has("failure") || has("error") {
                counts.failed += 1;
            } else if has("skipped") {
                counts.not_run += 1;
                let name = case.attribute("name").context("a test without a name")?;
                summary.add_not_run(format!("{group}: {}", with_reason(name)));
            } else {
                counts.passed += 1;
            }
            if has("flakyFailure") {
                let name = case.attribute("name").context("a test without a name")?;
                summary.add_repeated(format!("{group}: {name}"));
            }
        }
        failures += counts.failed;
        summary.add(group, counts);
    }
    Ok(failures)
}

/// `name (reason)` for a test that was skipped. The programs that find out themselves what can run name such a test
/// `[reason] name`, as `libtest-mimic` does.
fn with_reason(test: &str) -> String {
    let split = test.strip_prefix('[').and_then(|rest| rest.rsplit_once("] "));
    let (reason, name) = split.unwrap_or(("`#[ignore]`", test));
    format!("{name} ({reason})")
}

/// The folder of each package, relative to the root.
fn package_folders() -> Result<BTreeMap<String, String>> {
    let mut metadata = command("cargo");
    metadata.args(["metadata", "--no-deps", "--format-version", "1"]);
    let metadata: Value = serde_json::from_str(&process::output(&mut metadata)?)?;
    let packages = metadata.get("packages").and_then(Value::as_array);
    let folder = |package: &Value| {
        let name = package.get("name")?.as_str()?;
        let folder = Path::new(package.get("manifest_path")?.as_str()?).parent()?;
        let folder = folder.strip_prefix(tree::root()).ok()?;
        Some((name.to_owned(), folder.display().to_string()))
    };
    Ok(packages.into_iter().flatten().filter_map(folder).collect())
}

/// Runs the examples in the documentation. rustdoc has no stable report but its list of tests, so one that fails makes
/// all of them count as failed.
fn run_examples(summary: &mut Summary, prepare: impl Fn(&mut Command)) -> Result<()> {
    let list = |more: &[&str]| -> Result<u64> {
        let mut list = command("cargo");
        list.args(["test", "--workspace", "--doc", "--quiet"]).args(NO_EXAMPLES);
        prepare(list.args(["--", "--list", "--format", "terse"]).args(more));
        let listed = process::output(&mut list)?;
        Ok(listed.lines().filter(|line| line.ends_with(": test")).count().try_into()?)
    };
    let (all, ignored) = (list(&[])?, list(&["--ignored"])?);
    let mut cargo = command("cargo");
    cargo.args(["test", "--workspace", "--doc", "--no-fail-fast"]).args(NO_EXAMPLES);
    prepare(&mut cargo);
    let success = cargo.status().context("cargo can't be started")?.success();
    let ran = all.checked_sub(ignored);
    let Some(ran) = ran else { bail!("{ignored} of {all} examples are ignored") };
    let (passed, failed) = if success { (ran, 0) } else { (0, ran.max(1)) };
    summary.add(EXAMPLES, Counts { passed, failed, not_run: ignored });
    if ignored > 0 {
        summary.add_not_run(format!("{EXAMPLES}: {ignored} that are marked `ignore`"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::add_report;
    use crate::test::summary::{Counts, Summary};

    /// The report of a run with one test of each outcome.
    const REPORT: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="nextest-run" tests="4" failures="1" errors="0">
  <testsuite name="sandgate-policy" tests="2" disabled="0" errors="0" failures="1">
    <testcase name="works" classname="sandgate-policy" time="0.01"></testcase>
    <testcase name="fails" classname="sandgate-policy" time="0.01">
      <failure type="test failure">a reason</failure>
    </testcase>
  </testsuite>
  <testsuite name="sandgate-policy::tables" tests="2" disabled="2" errors="0" failures="0">
    <testcase name="slow" classname="sandgate-policy::tables"><skipped message="ignored"/></testcase>
    <testcase name="[needs root] ns::works" classname="x"><skipped message="ignored"/></testcase>
  </testsuite>
</testsuites>"#;

    #[test]
    fn a_skipped_test_does_not_count_as_passed_and_is_named_with_its_reason() {
        let mut summary = Summary::default();
        let folders = BTreeMap::from([("sandgate-policy".to_owned(), "policy".to_owned())]);
        assert_eq!(add_report(&mut summary, REPORT, &folders).unwrap(), 1);
        assert_eq!(summary.total(), Counts { passed: 1, failed: 1, not_run: 2 });
        let text = summary.to_string();
        assert!(text.contains("\n  policy: slow (`#[ignore]`)\n"), "{text}");
        assert!(text.contains("\n  policy: ns::works (needs root)\n"), "{text}");
    }

    #[test]
    fn a_test_that_passed_only_when_it_was_repeated_is_named() {
        let flaky = r#"<flakyFailure type="test failure">a reason</flakyFailure></testcase>"#;
        let report = REPORT.replacen("</testcase>", flaky, 1);
        let mut summary = Summary::default();
        add_report(&mut summary, &report, &BTreeMap::new()).unwrap();
        assert_eq!(summary.total(), Counts { passed: 1, failed: 1, not_run: 2 });
        let text = summary.to_string();
        assert!(
            text.contains("\npassed only when repeated:\n  sandgate-policy: works\n"),
            "{text}"
        );
    }

    #[test]
    fn a_report_that_is_cut_off_is_an_error() {
        let half = REPORT.get(..REPORT.len() / 2).unwrap();
        assert!(add_report(&mut Summary::default(), half, &BTreeMap::new()).is_err());
    }
}
