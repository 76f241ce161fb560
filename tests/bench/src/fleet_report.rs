//! `docs/benchmarks-fleet.md`, from the raw data of the measurements of fleets.

mod text;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use sandgate_stack::artifacts;
use serde_json::Value;

/// A measurement. Each one has a file of raw data, and can be repeated by itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Part {
    Propagation,
    Xds,
    Store,
}

impl Part {
    pub(crate) const ALL: [Self; 3] = [Self::Propagation, Self::Xds, Self::Store];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Propagation => "propagation",
            Self::Xds => "xds",
            Self::Store => "store",
        }
    }

    fn file(self) -> PathBuf {
        artifacts::root().join(format!("docs/benchmarks-fleet/{}.json", self.name()))
    }

    /// The raw data of the last run, if there was one.
    fn data(self) -> Result<Option<Value>> {
        match std::fs::read_to_string(self.file()) {
            Ok(text) => Ok(Some(serde_json::from_str(&text)?)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| self.file().display().to_string()),
        }
    }
}

/// Prints the result, and unless `print_only`, stores the raw data and writes the page again.
pub(crate) fn store(part: Part, data: &Value, print_only: bool) -> Result<()> {
    println!("{}", text::section(part, data));
    if print_only {
        return Ok(());
    }
    let file = part.file();
    std::fs::create_dir_all(file.parent().context("no folder")?)?;
    // One line for each change, so that a change of the file can be read.
    std::fs::write(&file, data.to_string().replace("},{\"", "},\n{\"") + "\n")?;
    write()
}

/// Writes the page from the raw data.
pub(crate) fn write() -> Result<()> {
    let mut sections = Vec::new();
    for part in Part::ALL {
        sections.push((part, part.data()?));
    }
    let file = artifacts::root().join("docs/benchmarks-fleet.md");
    std::fs::write(&file, text::page(&sections))?;
    eprintln!("==> {}", sandgate_stack::output::relative(&file));
    Ok(())
}
