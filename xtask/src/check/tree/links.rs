//! Rules for a text that names other files.

use std::path::{Path, PathBuf};

use super::{File, Finding};
use crate::tree::root;

/// A link in Markdown leads to a file that exists.
pub(super) fn check_links(file: &File<'_>, findings: &mut Vec<Finding>) {
    let folder = root().join(file.path.parent().unwrap_or(file.path));
    for (number, line) in file.lines() {
        for target in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = target.split('#').next().unwrap_or_default();
            let is_path = !path.is_empty()
                && !path.contains("://")
                && !path.starts_with("mailto:")
                && !path.contains(char::is_whitespace);
            if is_path && !folder.join(path).exists() {
                findings.push(Finding::at(number, format!("the link to `{target}` leads nowhere")));
            }
        }
    }
}

/// The Rust and Python files of the tree.
pub(super) struct SourceFiles(Vec<PathBuf>);

impl SourceFiles {
    pub(super) fn new(paths: &[PathBuf]) -> Self {
        let is_source = |path: &&PathBuf| is_source_file(&path.to_string_lossy());
        Self(paths.iter().filter(is_source).cloned().collect())
    }

    /// Whether a file has this name and these folders, in this order, with perhaps others between them.
    fn contain(&self, name: &str) -> bool {
        self.0.iter().any(|path| {
            let mut rest = path.components();
            let name = Path::new(name);
            path.file_name() == name.file_name()
                && name.components().all(|part| rest.any(|folder| folder == part))
        })
    }
}

/// A source file that a text names in backticks exists. Folders may be left out of the name (`e2e/tls.rs`). A name without
/// any folder may be an example, but in SECURITY.md it is a test.
pub(super) fn check_source_files(
    file: &File<'_>,
    sources: &SourceFiles,
    findings: &mut Vec<Finding>,
) {
    for (number, line) in file.lines() {
        // Every other part of the line is in backticks.
        for name in line.split('`').skip(1).step_by(2).filter(|name| is_source_file(name)) {
            let must_exist = name.contains('/') || file.name() == "SECURITY.md";
            if must_exist && !sources.contain(name) {
                findings.push(Finding::at(number, format!("there is no file `{name}`")));
            }
        }
    }
}

fn is_source_file(name: &str) -> bool {
    let in_a_name = |c: char| c.is_alphanumeric() || "_./-".contains(c);
    let stem = name.strip_suffix(".rs").or_else(|| name.strip_suffix(".py"));
    stem.is_some_and(|stem| !stem.is_empty()) && name.chars().all(in_a_name)
}
