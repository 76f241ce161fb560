//! Rules for the form of a Rust file.

use super::{File, Finding};

/// The most lines of a file without a reason at its top. A file holds one idea. Tests may be longer: they are lists.
const LONGEST_SOURCE: usize = 300;
/// How the reason of a longer file begins.
const REASON: &str = "//! The file has more than 300 lines because";

pub(super) fn check(file: &File<'_>, findings: &mut Vec<Finding>) {
    if file.name() == "mod.rs" {
        findings
            .push(Finding::of_file("name the module file after its module (foo.rs next to foo/)"));
    }
    if !file.text.is_empty() && !file.text.starts_with("//!") {
        let sentence = "say first what this file is for: a module doc comment (`//!`)";
        findings.push(Finding::at(1, sentence));
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
