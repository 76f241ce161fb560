//! What commands print: one JSON object for programs, or lines for people.

use std::io::{self, BufWriter, StdoutLock, Write as _};

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
        self.lists(|lists| {
            lists.begin(name)?;
            values.iter().try_for_each(|value| lists.print(value))
        })
    }

    /// Prints lists one after the other, each value as soon as it is known; with `--json` as one object
    /// whose keys are the names of the lists. A reader that exits early, as `head` does, is no error.
    pub(super) fn lists(
        &self,
        print: impl FnOnce(&mut Lists) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let out = BufWriter::new(io::stdout().lock());
        let mut lists =
            Lists { out, json: self.json, before_list: "{", before_value: "", is_empty: true };
        match print(&mut lists).and_then(|()| lists.end()) {
            Err(error) if error.downcast_ref().is_some_and(is_gone) => Ok(()),
            ended => ended,
        }
    }

    /// Prints text as it is. A reader that exits early is no error.
    pub(super) fn plain(text: &str) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Err(error) if !is_gone(&error) => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// Lists that are being printed. There is at least one.
pub(super) struct Lists {
    out: BufWriter<StdoutLock<'static>>,
    json: bool,
    /// The JSON text before the next list, and before the next value.
    before_list: &'static str,
    before_value: &'static str,
    /// No list has a value yet.
    is_empty: bool,
}

impl Lists {
    /// Begins a list.
    pub(super) fn begin(&mut self, name: &str) -> anyhow::Result<()> {
        if self.json {
            write!(self.out, "{}{}:[", self.before_list, json!(name))?;
        }
        (self.before_list, self.before_value) = ("],", "");
        Ok(())
    }

    /// Prints the next value of the list.
    pub(super) fn print(&mut self, value: &Value) -> anyhow::Result<()> {
        if self.json {
            write!(self.out, "{}{value}", self.before_value)?;
        } else {
            let columns: Vec<_> =
                value.as_object().into_iter().flatten().map(|(_, v)| shown(v)).collect();
            writeln!(self.out, "{}", columns.join("  "))?;
        }
        (self.before_value, self.is_empty) = (",", false);
        Ok(())
    }

    fn end(&mut self) -> anyhow::Result<()> {
        if self.json {
            writeln!(self.out, "]}}")?;
        } else if self.is_empty {
            writeln!(self.out, "none")?;
        }
        Ok(self.out.flush()?)
    }
}

/// Whether the reader has closed its end.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
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
