//! Rules for each line of a text that a person writes.

use super::{File, Finding};
use crate::tree::root;

pub(super) fn check(file: &File<'_>, findings: &mut Vec<Finding>) {
    for (number, line) in file.lines() {
        if line.trim_end() != line {
            findings.push(Finding::at(number, "white space at the end of the line"));
        }
        if is_conflict_marker(line) {
            findings.push(Finding::at(number, "a merge was left unfinished here"));
        }
        if names_a_machine(line) {
            let sentence =
                "a path of somebody's machine; write it relative, or take it from the environment";
            findings.push(Finding::at(number, sentence));
        }
    }
    if !file.text.is_empty() && !file.text.ends_with('\n') {
        findings
            .push(Finding::at(file.text.lines().count(), "no line break at the end of the file"));
    }
}

fn is_conflict_marker(line: &str) -> bool {
    ["<", ">", "="].iter().any(|sign| {
        line.strip_prefix(&sign.repeat(7))
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    })
}

/// Whether a line has a path that only exists on somebody's machine: a home folder, or this tree's own place.
fn names_a_machine(line: &str) -> bool {
    let homes = ["/home/", "/Users/", "/root/"];
    let in_a_home = homes.iter().any(|home| {
        occurrences(line, home).any(|(before, after)| {
            !ends_in_path(before) && after.starts_with(|c: char| c.is_alphanumeric() || c == '_')
        })
    });
    let here = root().display().to_string();
    // A short path would match ordinary text.
    let is_deep = root().components().count() > 2;
    in_a_home
        || is_deep
            && occurrences(line, &here).any(|(before, after)| {
                !ends_in_path(before)
                    && !before.ends_with('/')
                    && !after.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '-')
            })
}

/// What is before and after each occurrence of a text in a line.
fn occurrences<'a>(line: &'a str, text: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    line.match_indices(text)
        .filter_map(move |(at, _)| Some((line.get(..at)?, line.get(at + text.len()..)?)))
}

/// Whether the text before a match is part of the same path, as in `relative/home/x` or `${HOME}/root/x`.
fn ends_in_path(before: &str) -> bool {
    before.ends_with(|c: char| c.is_alphanumeric() || "_.}".contains(c))
}
