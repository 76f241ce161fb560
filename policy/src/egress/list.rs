//! Parsing of lists of entries. An error names the list and the position of the invalid entry.

use super::entry::InvalidEntry;

/// The number of characters of an invalid entry that an error shows.
const SHOWN_MAX: usize = 80;

/// An invalid entry of a list.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{field}[{index}]` (`{shown}`) {problem}")]
pub struct InvalidListEntry {
    /// The field that holds the list.
    pub field: &'static str,
    /// The position in the list, from 0.
    pub index: usize,
    /// The text of the entry, escaped and truncated to 80 characters.
    pub shown: String,
    /// What is wrong with the entry, and what to write instead.
    pub problem: InvalidEntry,
}

/// Parses the entries of a list up to the first invalid one.
///
/// # Errors
/// [`InvalidListEntry`] for the first invalid entry.
pub(super) fn parse<T>(
    field: &'static str,
    texts: &[String],
    parse_one: impl Fn(&str) -> Result<T, InvalidEntry>,
) -> Result<Vec<T>, InvalidListEntry> {
    let parse_one = |(index, text): (usize, &String)| {
        parse_one(text).map_err(|problem| InvalidListEntry {
            field,
            index,
            shown: text.chars().take(SHOWN_MAX).flat_map(char::escape_debug).collect(),
            problem,
        })
    };
    texts.iter().enumerate().map(parse_one).collect()
}
