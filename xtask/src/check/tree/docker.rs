//! Rules for an image recipe.

use std::collections::BTreeMap;

use super::{File, Finding};

/// Base images are named by digest: a tag can be moved. An argument without a default has to be given.
pub(super) fn check(file: &File<'_>, findings: &mut Vec<Finding>) {
    let defaults: BTreeMap<_, _> =
        file.lines().filter_map(|(_, line)| line.strip_prefix("ARG ")?.split_once('=')).collect();
    for (number, line) in file.lines() {
        let Some(words) = line.strip_prefix("FROM ") else { continue };
        let Some(base) = words.split_whitespace().find(|word| !word.starts_with("--")) else {
            continue;
        };
        let image = match base.strip_prefix('$') {
            Some(name) => {
                let name = name.trim_start_matches('{').trim_end_matches('}');
                defaults.get(name).copied().unwrap_or_default()
            }
            None => base,
        };
        if !image.is_empty() && !has_digest(image) {
            let sentence = format!("the base `{image}` is named without a digest");
            findings.push(Finding::at(number, sentence));
        }
    }
}

fn has_digest(image: &str) -> bool {
    image.split_once("@sha256:").is_some_and(|(_, digest)| super::pip::is_sha256(digest))
}
