//! Rules for the form of a Rust file.

use super::{File, Finding};

/// The most lines of a file without a reason at its top. A file holds one idea. Tests may be longer: they are lists.
const LONGEST_SOURCE: usize = 300;
/// How the reason of a longer file begins.
const REASON: &str = "//! The file has more than 300 lines because";

/// The files and folders that declare the ABI of a host, and so may hold unsafe code. The last two are the host's side, for
/// tests.
const UNSAFE: [&str; 5] = [
    "filters/hostcalls/src/pairs.rs",
    "filters/native/src/abi.rs",
    "filters/native/src/abi",
    "filters/native/src/tests/envoy/abi.rs",
    "filters/native/src/tests/envoy/abi",
];
/// The name of the lint, which such a file expects.
const LINT: &str = concat!("unsafe", "_code");

pub(super) fn check(file: &File<'_>, findings: &mut Vec<Finding>) {
    if file.name() == "mod.rs" {
        findings
            .push(Finding::of_file("name the module file after its module (foo.rs next to foo/)"));
    }
    if !file.text.is_empty() && !file.text.starts_with("//!") {
        let sentence = "say first what this file is for: a module doc comment (`//!`)";
        findings.push(Finding::at(1, sentence));
    }
    if !UNSAFE.iter().any(|allowed| file.path.starts_with(allowed)) {
        let lines = file.lines().filter(|(_, line)| line.contains("(") && line.contains(LINT));
        findings.extend(lines.map(|(line, _)| {
            Finding::at(line, "unsafe code is only allowed where the ABI of a host is declared")
        }));
    }
    let is_test = file.name() == "tests.rs"
        || file.path.components().any(|folder| folder.as_os_str() == "tests");
    let length = file.text.lines().count();
    if !is_test && length > LONGEST_SOURCE && !file.text.contains(REASON) {
        let sentence = format!(
            "more than {LONGEST_SOURCE} lines; split it by idea, or say at its top why not"
        );
        findings.push(Finding::at(length, sentence));
    }
}
