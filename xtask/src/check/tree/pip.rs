//! Rules for the list of what pip may install: each version with the digests of its files, from the registry that the user
//! has chosen.

use super::{File, Finding};

pub(super) fn check(file: &File<'_>, findings: &mut Vec<Finding>) {
    let mut lines = file.lines().peekable();
    while let Some((number, line)) = lines.next() {
        let next = lines.peek().map_or("", |(_, next)| next);
        if line.starts_with('-') {
            let sentence = "an option of pip's; leave it to the user's settings";
            findings.push(Finding::at(number, sentence));
        } else if line.starts_with(|c: char| c.is_ascii_alphabetic()) {
            if !is_pinned(line) {
                let sentence = format!("`{line}` has no version, or no digests");
                findings.push(Finding::at(number, sentence));
            } else if !is_digest(next) {
                let package = line.split(' ').next().unwrap_or(line);
                findings.push(Finding::at(number, format!("`{package}` has no digest")));
            }
        }
    }
}

/// `name==version \`
fn is_pinned(line: &str) -> bool {
    let Some((name, version)) = line.strip_suffix(" \\").and_then(|line| line.split_once("=="))
    else {
        return false;
    };
    let in_a_name = |c: char| c.is_alphanumeric() || "_.-".contains(c);
    name.chars().all(in_a_name) && !version.is_empty() && !version.contains(char::is_whitespace)
}

/// `    --hash=sha256:…`, and perhaps another one on the next line.
fn is_digest(line: &str) -> bool {
    let line = line.strip_suffix(" \\").unwrap_or(line);
    line.strip_prefix("    --hash=sha256:").is_some_and(is_sha256)
}

pub(super) fn is_sha256(digest: &str) -> bool {
    digest.len() == 64 && digest.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c))
}
