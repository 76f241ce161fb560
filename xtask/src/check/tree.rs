//! Cheap checks on the files themselves: what neither the compiler nor clippy looks at.

mod docker;
mod lines;
mod links;
mod pip;
mod rust;
mod scripts;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use self::links::SourceFiles;
use super::Outcome;
use crate::process::{command, output};
use crate::tree::root;

/// Something that is wrong with a file.
#[derive(Debug, Eq, PartialEq)]
struct Finding {
    /// The number of the line, if the finding is about one line.
    line: Option<usize>,
    sentence: String,
}

impl Finding {
    fn at(line: usize, sentence: impl Into<String>) -> Self {
        Self { line: Some(line), sentence: sentence.into() }
    }

    fn of_file(sentence: impl Into<String>) -> Self {
        Self { line: None, sentence: sentence.into() }
    }
}

/// A text file, with its path relative to the root.
struct File<'a> {
    path: &'a Path,
    text: &'a str,
}

impl<'a> File<'a> {
    fn name(&self) -> &'a str {
        self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }

    fn has_extension(&self, extension: &str) -> bool {
        self.path.extension().is_some_and(|found| found == extension)
    }

    /// The lines with their numbers.
    fn lines(&self) -> impl Iterator<Item = (usize, &'a str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    /// Whether a program writes it.
    fn is_generated(&self) -> bool {
        ["Cargo.lock", "LICENSE"].contains(&self.name()) || self.has_extension("json")
    }
}

pub(super) fn check() -> Result<Outcome> {
    let paths = paths()?;
    let sources = SourceFiles::new(&paths);
    let mut count = 0;
    for path in &paths {
        // Files that are not text are not checked.
        let Ok(text) = std::fs::read_to_string(root().join(path)) else { continue };
        for Finding { line, sentence } in findings(&File { path, text: &text }, &sources) {
            count += 1;
            let line = line.map(|line| format!(":{line}")).unwrap_or_default();
            println!("{}{line}: {sentence}", path.display());
        }
    }
    match count {
        0 => Ok(Outcome::Ok),
        _ => bail!("{count} findings in the tree's files (listed above)"),
    }
}

/// The files that git knows or would add, relative to the root.
fn paths() -> Result<Vec<PathBuf>> {
    let mut git = command("git");
    let listed =
        output(git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]))?;
    let mut paths: Vec<_> = listed.split_terminator('\0').map(PathBuf::from).collect();
    paths.retain(|path| root().join(path).is_file());
    paths.sort();
    paths.dedup();
    Ok(paths)
}

fn findings(file: &File<'_>, sources: &SourceFiles) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !file.is_generated() {
        lines::check(file, &mut findings);
    }
    if file.has_extension("rs") {
        rust::check(file, &mut findings);
    }
    if file.has_extension("md") {
        links::check_links(file, &mut findings);
    }
    if file.has_extension("rs") || file.has_extension("md") {
        links::check_source_files(file, sources, &mut findings);
    }
    if file.name().ends_with("Dockerfile") {
        docker::check(file, &mut findings);
    }
    if file.name().starts_with("requirements") && file.has_extension("txt") {
        pip::check(file, &mut findings);
    }
    scripts::check(file, &mut findings);
    findings
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{File, SourceFiles, findings, paths};
    use crate::tree::root;

    fn sentences(path: &str, text: &str) -> Vec<String> {
        let sources = SourceFiles::new(&paths().unwrap());
        let file = File { path: Path::new(path), text };
        findings(&file, &sources).into_iter().map(|finding| finding.sentence).collect()
    }

    fn assert_found(path: &str, text: &str, part: &str) {
        let found = sentences(path, text);
        assert!(found.iter().any(|sentence| sentence.contains(part)), "{text}: {found:?}");
    }

    fn assert_nothing_found(path: &str, text: &str) {
        assert_eq!(sentences(path, text), [""; 0], "{text}");
    }

    fn digest() -> String {
        format!("sha256:{}", "a".repeat(64))
    }

    #[test]
    fn a_path_of_somebodys_machine_is_found() {
        let home = ["let x = \"/ho", "me/someone/x\";"].concat();
        for line in [home, format!("cd {}/scripts", root().display())] {
            assert_found("docs/x.md", &format!("{line}\n"), "somebody's machine");
        }
    }

    #[test]
    fn ordinary_text_has_no_findings() {
        assert_nothing_found("docs/x.md", "See `/etc/envoy` and `~/.cargo`.\n");
    }

    #[test]
    fn a_link_to_a_file_that_does_not_exist_is_found() {
        assert_found("docs/x.md", "[a](no-such-file.md)\n", "leads nowhere");
        assert_nothing_found("docs/x.md", "[a](../README.md#try-it) [b](https://example.com)\n");
    }

    #[test]
    fn a_source_file_that_does_not_exist_is_found_where_a_text_names_it() {
        // The check reads this file, too.
        let gone = ["gone", ".rs"].concat();
        for (path, text) in [
            ("docs/x.md", format!("Tested by `tests/{gone}`.\n")),
            ("SECURITY.md", format!("| x | `{gone}` |\n")),
            ("control-plane/src/x.rs", format!("//! See `suite/{gone}`.\n")),
        ] {
            assert_found(path, &text, "there is no file");
        }
        for (path, text) in [
            (
                "docs/x.md",
                "`control-plane/tests/suite/contract.rs`, `suite/contract.rs`, `foo.rs`\n",
            ),
            ("SECURITY.md", "`api_patch.rs`, `e2e/tls.rs`\n"),
        ] {
            assert_nothing_found(path, text);
        }
    }

    #[test]
    fn a_base_image_without_a_digest_is_found() {
        for text in [
            "FROM debian:trixie-slim\n".to_owned(),
            "FROM --platform=linux/amd64 debian AS x\n".to_owned(),
            format!("FROM debian@{}\n", digest().trim_end_matches("a")),
            format!("FROM debian@{}0\n", digest()),
            "ARG BASE=debian:trixie-slim\nFROM ${BASE}\n".to_owned(),
        ] {
            assert_found("deploy/images/edge.Dockerfile", &text, "without a digest");
        }
    }

    #[test]
    fn a_base_image_with_a_digest_or_an_argument_without_a_default_is_accepted() {
        for text in [
            format!("FROM debian:trixie-slim@{}\n", digest()),
            format!("ARG BASE=debian@{}\nFROM ${{BASE}} AS base\n", digest()),
            "ARG ENVOY_IMAGE\nFROM $ENVOY_IMAGE\n".to_owned(),
        ] {
            assert_nothing_found("deploy/images/sidecar.Dockerfile", &text);
        }
    }

    #[test]
    fn a_requirement_without_a_digest_is_found() {
        let hash = format!("    --hash={}", digest());
        assert_nothing_found(
            "tests/clients/requirements.txt",
            &format!("# Why.\none==1.0 \\\n{hash} \\\n{hash}\ntwo==2 \\\n{hash}\n"),
        );
        for text in [
            "one==1.0\n".to_owned(),
            format!("one \\\n{hash}\n"),
            format!("one==1.0 \\\ntwo==2 \\\n{hash}\n"),
            "--index-url https://example.com\n".to_owned(),
        ] {
            let found = sentences("tests/clients/requirements-tl.txt", &text);
            assert_ne!(found, [""; 0], "{text}");
        }
    }

    #[test]
    fn white_space_at_the_end_of_a_line_and_a_missing_last_line_break_are_found() {
        assert_found("docs/x.md", "a \n", "white space");
        assert_found("docs/x.md", "a", "no line break");
    }

    #[test]
    fn a_rust_file_without_a_purpose_is_found() {
        assert_found("policy/src/x.rs", "fn x() {}\n", "module doc comment");
        assert_found("policy/src/x/mod.rs", "//! X.\n", "foo.rs next to foo/");
        let long = format!("//! X.\n{}", "// x\n".repeat(600));
        assert_found("policy/src/x.rs", &long, "split it by idea");
        assert_nothing_found("policy/tests/x.rs", &long);
    }
}
