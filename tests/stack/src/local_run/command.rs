//! The commands that `make run` prints, and those of docs/tour.md. `make try` runs all of them.
//!
//! They are the same for every run: what differs is in the variables of its env file.

mod edge;
mod first_page;
mod policy;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

pub use edge::{for_the_edge, nodes};
pub use first_page::FirstPage;
pub use policy::for_the_policy;

/// A command line, and what it must do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Command {
    /// A phrase that says what the command demonstrates.
    pub description: String,
    /// For bash, after `source env`.
    pub line: String,
    /// A regular expression that the output must match.
    pub expect: String,
    /// The exit status. curl reports denials by its exit status.
    pub status: i64,
    /// The number of seconds for which the command is repeated if it fails, because it follows a change that takes effect
    /// with a delay.
    pub patience: u64,
}

impl Command {
    fn new(description: &str, line: String, expect: &str) -> Self {
        let (description, expect) = (description.to_owned(), expect.to_owned());
        Self { description, line, expect, status: 0, patience: 0 }
    }

    fn with_status(self, status: i64) -> Self {
        Self { status, ..self }
    }

    fn with_patience(self, seconds: u64) -> Self {
        Self { patience: seconds, ..self }
    }

    /// The form in the file of commands.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "shows": self.description,
            "line": self.line,
            "expect": self.expect,
            "status": self.status,
            "patience": self.patience,
        })
    }

    /// Reads what [`Command::to_json`] returned.
    pub fn from_json(json: &Value) -> Result<Self> {
        let text = |name: &str| json.get(name).and_then(Value::as_str).map(str::to_owned);
        let read = || {
            Some(Self {
                description: text("shows")?,
                line: text("line")?,
                expect: text("expect")?,
                status: json.get("status")?.as_i64()?,
                patience: json.get("patience")?.as_u64()?,
            })
        };
        read().with_context(|| format!("not a command: {json}"))
    }
}

/// The option of curl that prints the status in a line of its own.
const STATUS: &str = r"-w '\n%{http_code}\n'";
/// The expression that a response with status 200 matches, after [`STATUS`].
const OK: &str = r"\n200$";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local_run::NODE;

    /// A section of the page: its heading, and its commands in the form of a console.
    fn section(heading: &str, commands: &[Command]) -> String {
        let lines = commands.iter().map(|command| {
            format!("{}:\n\n```sh\n{}\n```\n", capitalized(&command.description), command.line)
        });
        format!("## {heading}\n\n{}", lines.collect::<Vec<_>>().join("\n"))
    }

    fn capitalized(text: &str) -> String {
        let (first, rest) = text.split_at(1);
        first.to_uppercase() + rest
    }

    /// `scripts/try` runs what these functions return, so it runs every command of the page.
    #[test]
    fn the_tour_has_the_commands_that_are_tried_and_no_others() {
        let mut edge = for_the_edge();
        edge.push(nodes(NODE));
        let sections =
            [section("The edge", &edge), section("Network policies, as root", &for_the_policy())];
        let file = crate::artifacts::root().join("docs/tour.md");
        let page = std::fs::read_to_string(&file).unwrap();
        let head = page.split("## The edge").next().unwrap();
        let expected = format!("{head}{}", sections.join("\n"));
        if std::env::var_os("SANDGATE_UPDATE_GOLDEN").is_some() {
            std::fs::write(&file, &expected).unwrap();
        }
        assert!(
            page == expected || std::env::var_os("SANDGATE_UPDATE_GOLDEN").is_some(),
            "docs/tour.md is out of date; run this test with SANDGATE_UPDATE_GOLDEN=1"
        );
    }

    #[test]
    fn a_command_is_read_as_it_was_written() {
        for command in for_the_edge() {
            assert_eq!(Command::from_json(&command.to_json()).unwrap(), command);
        }
        assert!(Command::from_json(&json!({ "line": "true" })).is_err());
    }
}
