//! The output of commands: one JSON object for programs, or lines for people.

use std::io::{self, BufWriter, StdoutLock, Write as _};

use serde_json::{Value, json};

pub(super) struct Output {
    json: bool,
}

impl Output {
    pub(super) fn new(json: bool) -> Self {
        Self { json }
    }

    pub(super) fn is_json(&self) -> bool {
        self.json
    }

    /// Prints one record.
    pub(super) fn one(&self, value: &Value) -> anyhow::Result<()> {
        if self.json {
            return Self::plain(&format!("{value}\n"));
        }
        let Value::Object(fields) = value else { return Ok(()) };
        let width = fields.keys().map(String::len).max().unwrap_or(0);
        let lines =
            fields.iter().map(|(key, value)| format!("{key:width$}  {}\n", format_value(value)));
        Self::plain(&lines.collect::<String>())
    }

    /// Prints a list. With `--json`, it is an object whose only key is `name`.
    pub(super) fn many(&self, name: &str, values: &[Value]) -> anyhow::Result<()> {
        self.lists(|lists| {
            lists.begin(name)?;
            values.iter().try_for_each(|value| lists.print(value))
        })
    }

    /// Prints several lists without keeping their values. With `--json`, they are one object whose keys are the names of
    /// the lists. A reader that exits early, as `head` does, is not an error.
    pub(super) fn lists(
        &self,
        print: impl FnOnce(&mut Lists) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let out = BufWriter::new(io::stdout().lock());
        let mut lists =
            Lists { out, json: self.json, before_list: "{", before_value: "", is_empty: true };
        match print(&mut lists).and_then(|()| lists.end()) {
            Err(error) if error.downcast_ref().is_some_and(is_broken_pipe) => Ok(()),
            ended => ended,
        }
    }

    /// Prints text. A reader that exits early is not an error.
    pub(super) fn plain(text: &str) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Err(error) if !is_broken_pipe(&error) => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// The state of [`Output::lists`], which prints at least one list.
pub(super) struct Lists {
    out: BufWriter<StdoutLock<'static>>,
    json: bool,
    /// The JSON text before the next list.
    before_list: &'static str,
    /// The JSON text before the next value.
    before_value: &'static str,
    /// Whether no list has a value yet.
    is_empty: bool,
}

impl Lists {
    pub(super) fn begin(&mut self, name: &str) -> anyhow::Result<()> {
        if self.json {
            write!(self.out, "{}{}:[", self.before_list, json!(name))?;
        }
        (self.before_list, self.before_value) = ("],", "");
        Ok(())
    }

    /// Prints the names of the columns, for people.
    pub(super) fn heading(&mut self, text: &str) -> anyhow::Result<()> {
        if !self.json {
            writeln!(self.out, "{text}")?;
        }
        Ok(())
    }

    /// Prints the next value of the list, or for people its text.
    pub(super) fn print_as(
        &mut self,
        value: impl FnOnce() -> Value,
        text: impl FnOnce() -> String,
    ) -> anyhow::Result<()> {
        if self.json {
            return self.print(&value());
        }
        self.is_empty = false;
        Ok(writeln!(self.out, "{}", text())?)
    }

    /// Prints the next value of the list.
    pub(super) fn print(&mut self, value: &Value) -> anyhow::Result<()> {
        if self.json {
            write!(self.out, "{}{value}", self.before_value)?;
        } else {
            let columns: Vec<_> =
                value.as_object().into_iter().flatten().map(|(_, v)| format_value(v)).collect();
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

/// Whether the reader has closed the pipe.
fn is_broken_pipe(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}

/// Prints an error on one line.
pub(super) fn print_error(error: &anyhow::Error) {
    // A failure to print an error can't be reported.
    let _ = writeln!(io::stderr().lock(), "error: {error:#}");
}

/// Text that may contain the response of a server, with escapes for what could change the terminal.
pub(super) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' | '\'' | '\\' => out.push(character),
            other => out.extend(other.escape_debug()),
        }
    }
    out
}

fn format_value(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}
