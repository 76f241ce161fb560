//! Rules for the form of a Rust file.

use super::{File, Finding};

/// A file holds one idea. Tests may be long: they are lists.
const LONGEST_SOURCE: usize = 500;

pub(super) fn check(file: &File<'_>, findings: &mut Vec<Finding>) {
    if file.name() == "mod.rs" {
        findings
            .push(Finding::of_file("name the module file after its module (foo.rs next to foo/)"));
    }
    if !file.text.is_empty() && !file.text.starts_with("//!") {
        let sentence = "say first what this file is for: a module doc comment (`//!`)";
        findings.push(Finding::at(1, sentence));
    }
    let is_test = file.path.components().any(|folder| folder.as_os_str() == "tests");
    let length = file.text.lines().count();
    if !is_test && length > LONGEST_SOURCE {
        let sentence = format!("more than {LONGEST_SOURCE} lines; split it by idea");
        findings.push(Finding::at(length, sentence));
    }
}
