//! What an edge gets, as golden files: the resources of each desired state, and the static configuration of the same values.
//!
//! The smallest state is stored as a whole, and the others as their difference from it. `SANDGATE_UPDATE_GOLDEN=1` writes the
//! files anew; read the difference before you commit it. Envoy checks each configuration, too.

#![cfg(test)]

mod cases;
mod envoy;
mod text;

use std::path::{Path, PathBuf};

use cases::{CASES, Case};
use serde_json::Value;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/files").join(name)
}

/// Compares a text with a golden file, or writes the file.
fn compare(name: &str, text: &str) -> Result<(), String> {
    let path = file(name);
    if std::env::var_os("SANDGATE_UPDATE_GOLDEN").is_some() {
        std::fs::write(path, text).unwrap();
        return Ok(());
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    let Some((line, (old, new))) = first_difference(&golden, text) else { return Ok(()) };
    Err(format!(
        "tests/golden/files/{name}, line {line}:\n  - {old}\n  + {new}\nIf that is what you want, write the files anew: \
         SANDGATE_UPDATE_GOLDEN=1 cargo test -p sandgate-xds --test golden"
    ))
}

fn first_difference(golden: &str, text: &str) -> Option<(usize, (String, String))> {
    let (mut old, mut new) = (golden.lines(), text.lines());
    for line in 1.. {
        match (old.next(), new.next()) {
            (None, None) => return None,
            (old, new) if old == new => {}
            (old, new) => {
                let text = |line: Option<&str>| line.unwrap_or("(the end)").to_owned();
                return Some((line, (text(old), text(new))));
            }
        }
    }
    None
}

/// Compares one view of all cases with its golden files.
fn compare_all(view: &str, of: impl Fn(&Case) -> Value) {
    let mut problems = Vec::new();
    let base = of(&CASES[0]);
    problems.extend(compare(&format!("{view}.json"), &text::print(&base)).err());
    for case in &CASES[1..] {
        let name = format!("{view}-{}.diff", case.name);
        problems.extend(compare(&name, &text::difference(&base, &of(case))).err());
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn the_resources_are_as_committed() {
    compare_all("xds", |case| case.resources());
}

#[test]
fn the_static_configuration_is_as_committed() {
    compare_all("static", |case| case.static_configuration());
}

#[test]
fn every_field_of_the_state_is_in_a_case() {
    let source = include_str!("../../src/state/settings.rs");
    let fields = source.split("pub struct EdgeSettings {").nth(1).unwrap();
    let fields = fields.split("\n}").next().unwrap().lines();
    let names = fields.filter_map(|line| line.trim().strip_prefix("pub "));
    for name in names.map(|line| line.split(':').next().unwrap()) {
        let field = format!("{name}:");
        let all = CASES.iter().map(|case| case.more).chain([cases::REQUIRED]);
        assert!(all.clone().any(|text| text.contains(&field)), "`{name}` is in no case");
    }
}
