//! What commands print: one JSON object for programs, or lines for people.

use std::io::{self, Write as _};

use serde_json::{Value, json};

/// How to print.
pub(super) struct Output {
    json: bool,
}

impl Output {
    pub(super) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Prints what was made or changed.
    pub(super) fn one(&self, value: &Value) -> anyhow::Result<()> {
        if self.json {
            return Self::plain(&format!("{value}\n"));
        }
        let Value::Object(fields) = value else { return Ok(()) };
        let width = fields.keys().map(String::len).max().unwrap_or(0);
        let lines = fields.iter().map(|(key, value)| format!("{key:width$}  {}\n", shown(value)));
        Self::plain(&lines.collect::<String>())
    }

    /// Prints a list; with `--json` as one object whose only key is `name`.
    pub(super) fn many(&self, name: &str, values: &[Value]) -> anyhow::Result<()> {
        self.lists(&[(name, values)])
    }

    /// Prints lists one after the other; with `--json` as one object whose keys are their names.
    pub(super) fn lists(&self, lists: &[(&str, &[Value])]) -> anyhow::Result<()> {
        if self.json {
            let all = lists.iter().map(|(name, values)| ((*name).to_owned(), json!(values)));
            return Self::plain(&format!("{}\n", Value::Object(all.collect())));
        }
        let values = lists.iter().flat_map(|(_, values)| values.iter());
        let lines = values.map(|value| {
            let columns: Vec<_> =
                value.as_object().into_iter().flatten().map(|(_, v)| shown(v)).collect();
            columns.join("  ") + "\n"
        });
        let text: String = lines.collect();
        Self::plain(if text.is_empty() { "none\n" } else { &text })
    }

    /// Prints text as it is. A reader that has gone away, as `head` does, is no error.
    pub(super) fn plain(text: &str) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// Prints what went wrong, in one line.
pub(super) fn complain(error: &anyhow::Error) {
    // There is nobody to tell when this fails.
    let _ = writeln!(io::stderr().lock(), "error: {error:#}");
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}
