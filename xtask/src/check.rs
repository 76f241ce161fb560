//! `cargo xtask check`: the checks that need no test run.

mod dependencies;
mod documentation;
mod envoy;
mod tools;
mod tree;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::process::say;

/// The outcome of a check that did not fail.
enum Outcome {
    Ok,
    /// The machine lacks something that the check needs: the reason.
    NotRun(String),
}

/// A check by its name, its description, and the function that runs it.
type Check = (&'static str, &'static str, fn() -> Result<Outcome>);

/// All checks. Cheap ones come first.
const CHECKS: &[Check] = &[
    ("lock", "Cargo.lock is what Cargo.toml asks for", tools::lock),
    ("tree", "the rules for files, and the links between them", tree::check),
    ("settings", "the documentation names every setting", documentation::check),
    ("format", "cargo fmt", tools::format),
    (
        "policy",
        "policy and the engines are pure: their dependencies are on the list",
        dependencies::policy,
    ),
    ("sidecar", "sandgate-sidecar contains no code of the control plane", dependencies::sidecar),
    ("licences", "cargo-deny: bans, licences, sources", tools::licences),
    ("advisories", "cargo-deny: known vulnerabilities", tools::advisories),
    ("clippy", "clippy, native", tools::clippy),
    ("clippy-wasm", "clippy, for Envoy", tools::clippy_wasm),
    ("docs", "cargo doc without warnings", tools::docs),
    ("envoy", "Envoy accepts its configurations", envoy::check),
];

/// Runs the checks with these names, or all of them. The last line of the output counts them.
///
/// # Errors
/// There is no check with such a name.
pub(crate) fn run(names: &[String]) -> Result<ExitCode> {
    let chosen = choose(names)?;
    let (mut ok, mut failed, mut not_run) = (0, 0, 0);
    let mut lines = Vec::new();
    for (name, description, check) in chosen {
        say(&format!("check: {description}"));
        let begun = Instant::now();
        let outcome = match check() {
            Ok(Outcome::Ok) => {
                ok += 1;
                "ok".to_owned()
            }
            Ok(Outcome::NotRun(reason)) => {
                not_run += 1;
                format!("NOT RUN: {reason}")
            }
            Err(error) => {
                eprintln!("error: {error:#}");
                failed += 1;
                "FAILED".to_owned()
            }
        };
        let seconds = begun.elapsed().as_secs_f64();
        lines.push(format!("  {name:<12} {seconds:6.1} s  {outcome}"));
    }
    println!("\n{}\ncheck: {ok} ok, {failed} failed, {not_run} not run", lines.join("\n"));
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn choose(names: &[String]) -> Result<Vec<&'static Check>> {
    if names.is_empty() {
        return Ok(CHECKS.iter().collect());
    }
    let mut chosen = Vec::new();
    for wanted in names {
        let Some(check) = CHECKS.iter().find(|(name, ..)| name == wanted) else {
            let all: Vec<_> = CHECKS.iter().map(|(name, ..)| *name).collect();
            bail!("no check `{wanted}`; there are {}", all.join(", "));
        };
        chosen.push(check);
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::choose;

    #[test]
    fn a_name_that_no_check_has_is_refused_with_the_list_of_names() {
        let error = choose(&["clippi".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("`clippi`") && error.contains("clippy-wasm"), "{error}");
    }

    #[test]
    fn named_checks_run_in_the_order_in_which_they_are_named() {
        let names = ["docs".to_owned(), "lock".to_owned()];
        let chosen: Vec<_> = choose(&names).unwrap().iter().map(|(name, ..)| *name).collect();
        assert_eq!(chosen, ["docs", "lock"]);
    }
}
