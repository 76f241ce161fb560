//! Runs every command that `make run` prints and that docs/tour.md has, as written, and checks its output.

use std::path::Path;
use std::process::{Command as Program, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use regex::Regex;
use serde_json::Value;

use crate::artifacts::root;
use crate::local_run::command::Command;
use crate::local_run::own::OwnRun;
use crate::local_run::{commands_file, state_folder};
use crate::output::say;

/// The numbers of commands that passed and failed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Count {
    /// Commands that did what they must.
    pub passed: u32,
    /// The others.
    pub failed: u32,
}

impl Count {
    fn add(&mut self, passed: bool) {
        if passed {
            self.passed += 1;
        } else {
            self.failed += 1;
        }
    }
}

/// Runs the commands of the run that is up.
pub fn against_the_run_that_is_up() -> Result<Count> {
    let mut count = Count::default();
    run_all(&state_folder()?, &mut count)?;
    Ok(count)
}

/// Runs the commands of a run on unused ports; then stops it, starts it again with the same state, and checks that
/// nothing is left.
pub fn against_an_own_run(folder: &Path) -> Result<Count> {
    let mut run = OwnRun::new(folder)?;
    let mut count = Count::default();
    for which in ["first", "second"] {
        let ports = run.ports().by_variable().map(|(_, port)| port.to_string()).join(", ");
        say(&format!("the {which} start, on ports {ports}"));
        let begun = Instant::now();
        run.start()?;
        say(&format!("ready after {:.1} s", begun.elapsed().as_secs_f64()));
        let outcome = run_all(run.state(), &mut count);
        let left = run.stop()?;
        outcome?;
        for sentence in &left {
            println!("  FAILED stopping: {sentence}");
        }
        if left.is_empty() {
            println!("  ok     stopping leaves nothing running");
        }
        count.add(left.is_empty());
        if count.failed > 0 {
            show_logs(run.state())?;
            break;
        }
    }
    Ok(count)
}

fn run_all(state: &Path, count: &mut Count) -> Result<()> {
    let file = commands_file(state);
    let text = std::fs::read_to_string(file).with_context(|| {
        format!("no run has its state in {}; start one with `make run`", state.display())
    })?;
    let list: Value = serde_json::from_str(&text)?;
    for command in list.get("commands").and_then(Value::as_array).into_iter().flatten() {
        count.add(run_with_patience(state, &Command::from_json(command)?)?);
    }
    if let Some(reason) = list.get("left_out").and_then(Value::as_str) {
        println!("not run: the commands for a sandbox behind a sidecar ({reason})");
        // CI must run all of them.
        if std::env::var("CI").is_ok_and(|value| value == "true") {
            count.add(false);
        }
    }
    Ok(())
}

fn run_with_patience(state: &Path, command: &Command) -> Result<bool> {
    let expect = Regex::new(&command.expect)?;
    let begun = Instant::now();
    loop {
        let output = run(state, command)?;
        let text = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
        let status = output.status.code().map(i64::from);
        let passed = status == Some(command.status) && expect.is_match(&text);
        if !passed && begun.elapsed() < Duration::from_secs(command.patience) {
            std::thread::sleep(Duration::from_millis(100));
            continue;
        }
        let word = if passed { "ok    " } else { "FAILED" };
        println!("  {word} {:6} ms  {}", begun.elapsed().as_millis(), command.description);
        if !passed {
            println!("    {}\n    {}, output: {text}", command.line, output.status);
        }
        return Ok(passed);
    }
}

fn run(state: &Path, command: &Command) -> Result<Output> {
    let env = shlex::try_quote(&state.join("env").display().to_string())?.into_owned();
    let line = format!("exec 2>&1; source {env}; {}", command.line);
    // A command that hangs is a failure. The first one that uses the Python SDK installs it.
    Program::new("timeout")
        .args(["180", "bash", "-c", &line])
        .current_dir(root())
        .stdin(Stdio::null())
        .output()
        .context("`timeout` and `bash` can't be started")
}

fn show_logs(state: &Path) -> Result<()> {
    for entry in std::fs::read_dir(state)?.flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "log") {
            let text = String::from_utf8_lossy(&std::fs::read(entry.path())?).into_owned();
            let lines: Vec<&str> = text.lines().collect();
            let tail = lines.get(lines.len().saturating_sub(40)..).unwrap_or_default();
            println!("--- the end of {}\n{}", entry.file_name().display(), tail.join("\n"));
        }
    }
    Ok(())
}
