//! The report: `benchmarks.md`, its plots, and the raw data. All of it is made from the raw data alone.

mod goals;
mod limits;
mod parts;
mod plots;
mod profile;
mod readme;
mod svg;
mod tables;
mod text;

use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Map, Value};

use crate::statistics::{median, quantile, ratios};

pub(crate) use parts::{merge, note_times};
pub(crate) use readme::{not_measured, update as update_readme};

/// The raw data of a run.
pub(crate) type Data = Map<String, Value>;

/// Writes the report into a folder, and replaces an earlier one only when everything is there; returns the page.
pub(crate) fn write(data: &Data, folder: &Path) -> Result<String> {
    let page = text::page(data);
    let next = folder.join("benchmarks.new");
    drop(std::fs::remove_dir_all(&next));
    std::fs::create_dir_all(&next).with_context(|| format!("`{}`", next.display()))?;
    let raw = serde_json::to_string(data)?;
    // One line for each way, so that a change of the file can be read.
    std::fs::write(next.join("data.json"), raw.replace("},{\"", "},\n{\"") + "\n")?;
    for (name, svg) in plots::all(data) {
        std::fs::write(next.join(name), svg)?;
    }
    std::fs::write(next.join("benchmarks.md"), &page)?;
    let plots = folder.join("benchmarks");
    drop(std::fs::remove_dir_all(&plots));
    std::fs::rename(&next, &plots)?;
    std::fs::rename(plots.join("benchmarks.md"), folder.join("benchmarks.md"))?;
    Ok(page)
}

/// The rows of a part that has ways.
fn rows(data: &Data, part: &str) -> Vec<Value> {
    let ways = data.get(part).and_then(|part| part.get("ways")).and_then(Value::as_array);
    ways.cloned().unwrap_or_default()
}

fn row<'a>(rows: &'a [Value], name: &str) -> Option<&'a Value> {
    rows.iter().find(|row| text_of(row, "name") == name && row.get("missing").is_none())
}

fn text_of<'a>(row: &'a Value, field: &str) -> &'a str {
    row.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn number(row: &Value, field: &str) -> f64 {
    row.get(field).and_then(Value::as_f64).unwrap_or_default()
}

fn numbers(row: &Value, field: &str) -> Vec<f64> {
    let all = row.get(field).and_then(Value::as_array);
    all.into_iter().flatten().filter_map(Value::as_f64).collect()
}

/// The median ratio of a way to another one in the same round.
fn ratio(rows: &[Value], name: &str, base: &str, field: &str) -> Option<f64> {
    let values = numbers(row(rows, name)?, field);
    Some(median(&ratios(&values, &numbers(row(rows, base)?, field))))
}

/// A median and the quartiles.
fn spread(values: &[f64], digits: usize) -> String {
    format!(
        "{:.digits$} ({:.digits$}–{:.digits$})",
        median(values),
        quantile(values, 0.25),
        quantile(values, 0.75)
    )
}
