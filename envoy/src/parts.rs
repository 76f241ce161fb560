//! The parts of a template that differ between two settings.
//!
//! A template has no conditions. Where two settings differ, it has a line `${part NAME}`, and each setting has a file
//! with a part of that name:
//!
//! ```yaml
//! # Explains the part. Not inserted.
//! NAME:
//!   - inserted with the indentation of the line in the template
//! OTHER, for each shard:
//!   - { name: "inserted ${SHARD} times, with 1, 2, and so on" }
//! ```

use crate::template::RenderError;

/// The number of copies of a part `for each shard`.
const SHARDS: usize = 255;
const FOR_EACH_SHARD: &str = ", for each shard";
const SHARD: &str = "${SHARD}";

/// Replaces each line `${part NAME}` of a template by the part of that name from one of the files. A part may contain such
/// lines too, for parts that come after it.
///
/// # Errors
///
/// If no file contains the part, or a file has a line that belongs to no part.
pub fn insert(template: &str, files: &[&str]) -> Result<String, RenderError> {
    let mut parts = Vec::new();
    for file in files {
        parse(file, &mut parts)?;
    }
    let mut inserted = String::with_capacity(template.len());
    for (index, line) in template.lines().enumerate() {
        append(&mut inserted, "", line, &parts)
            .map_err(|name| RenderError::UnknownPart { name, line: index + 1 })?;
    }
    Ok(inserted)
}

/// Appends a line, or the part that it names. The error is the name of a part that does not exist.
fn append(
    text: &mut String,
    indentation: &str,
    line: &str,
    parts: &[Part<'_>],
) -> Result<(), String> {
    let Some(name) = part_name(line) else {
        text.extend([indentation, line, "\n"]);
        return Ok(());
    };
    let own = line.split('$').next().unwrap_or_default();
    let indentation = format!("{indentation}{own}");
    let position = parts.iter().position(|part| part.name == name);
    let (part, later) = position
        .and_then(|position| parts.get(position..)?.split_first())
        .ok_or_else(|| name.to_owned())?;
    for shard in if part.for_each_shard { 1..=SHARDS } else { 0..=0 } {
        for line in &part.lines {
            append(text, &indentation, &line.replace(SHARD, &shard.to_string()), later)?;
        }
    }
    Ok(())
}

/// The name in a line `${part NAME}`.
fn part_name(line: &str) -> Option<&str> {
    line.trim().strip_prefix("${part ")?.strip_suffix('}')
}

struct Part<'a> {
    name: &'a str,
    for_each_shard: bool,
    /// Without the indentation below the name.
    lines: Vec<&'a str>,
}

fn parse<'a>(file: &'a str, parts: &mut Vec<Part<'a>>) -> Result<(), RenderError> {
    let mut part: Option<Part<'a>> = None;
    for (index, line) in file.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        match (line.strip_prefix("  "), line.strip_suffix(':'), &mut part) {
            (Some(content), _, Some(part)) => part.lines.push(content),
            (None, Some(name), _) => {
                parts.extend(part.take());
                let repeated = name.strip_suffix(FOR_EACH_SHARD);
                let (name, for_each_shard) = (repeated.unwrap_or(name), repeated.is_some());
                part = Some(Part { name, for_each_shard, lines: Vec::new() });
            }
            _ => return Err(RenderError::OutsideOfParts(index + 1)),
        }
    }
    parts.extend(part);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_inserted_with_the_indentation_of_its_line() {
        let parts = "# Why.\na:\n  x: 1\n  y:\n    - 2\n\nb:\n  # Nothing.\n";
        assert_eq!(
            insert("k:\n    ${part a}\n  ${part b}\nend: ${A}\n", &["other:\n  z\n", parts]),
            Ok("k:\n    x: 1\n    y:\n      - 2\n  # Nothing.\nend: ${A}\n".to_owned())
        );
    }

    #[test]
    fn a_part_contains_later_parts_and_not_itself() {
        let parts = "a:\n  x:\n    ${part b}\nb:\n  - 1\n";
        assert_eq!(insert("  ${part a}\n", &[parts]), Ok("  x:\n    - 1\n".to_owned()));
        let endless = insert("${part a}\n", &["a:\n  ${part a}\n"]).unwrap_err();
        let error = RenderError::UnknownPart { name: "a".to_owned(), line: 1 };
        assert_eq!(endless, error);
    }

    #[test]
    fn a_part_for_each_shard_is_repeated_with_the_numbers_of_the_shards() {
        let text = insert("${part a}\n", &["a, for each shard:\n  - ${SHARD}\n"]).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines.len(), lines.first(), lines.last()), (255, Some(&"- 1"), Some(&"- 255")));
    }

    #[test]
    fn a_part_without_a_text_and_a_line_outside_of_parts_are_refused() {
        let error = insert("x\n  ${part b}\n", &["a:\n  x\n"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the template contains `${part b}` in line 2, and there is no such part"
        );
        let error = insert("", &["# Comment.\n  x: 1\n"]).unwrap_err();
        assert_eq!(error.to_string(), "line 2 of a file of parts belongs to no part");
    }
}
