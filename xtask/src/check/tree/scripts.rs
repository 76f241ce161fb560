//! Rules for a script: it is executable, and its interpreter can parse it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use super::{File, Finding};
use crate::process::command;
use crate::tree::root;

pub(super) fn check(file: &File<'_>, findings: &mut Vec<Finding>) {
    if !file.text.starts_with("#!") {
        if file.path.parent() == Some(Path::new("scripts")) {
            findings.push(Finding::at(1, "a script starts with `#!`"));
        }
        return;
    }
    if file.text.matches("--requirement").count() > file.text.matches("--require-hashes").count() {
        let sentence = "pip is to check digests: `--require-hashes` with each `--requirement`";
        findings.push(Finding::of_file(sentence));
    }
    let path = root().join(file.path);
    let is_executable =
        std::fs::metadata(&path).is_ok_and(|found| found.permissions().mode() & 0o100 != 0);
    if !is_executable {
        findings.push(Finding::of_file("a script, but not executable: chmod +x"));
    }
    let interpreter = file.text.lines().next().unwrap_or_default();
    let mut parser = if interpreter.contains("python") {
        let mut python = command("python3");
        let compile =
            "import sys; compile(open(sys.argv[1], encoding='utf-8').read(), sys.argv[1], 'exec')";
        python.args(["-c", compile]);
        python
    } else if interpreter.contains("bash") {
        let mut bash = command("bash");
        bash.arg("-n");
        bash
    } else {
        return;
    };
    if let Some(error) = parse_error(parser.arg(path)) {
        findings.push(Finding::of_file(format!("its interpreter can't parse it: {error}")));
    }
}

/// The last line of what the interpreter prints, if it refuses the script.
fn parse_error(parser: &mut Command) -> Option<String> {
    match parser.output() {
        Ok(done) if done.status.success() => None,
        Ok(done) => {
            let said = String::from_utf8_lossy(&done.stderr);
            Some(said.trim_end().lines().last().unwrap_or("no output").to_owned())
        }
        Err(error) => Some(error.to_string()),
    }
}
