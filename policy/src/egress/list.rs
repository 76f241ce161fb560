//! Lists of entries, as they are written: an error says where in which list.

use super::entry::InvalidEntry;

/// Characters of a bad entry that an error shows.
const SHOWN_MAX: usize = 80;

/// A text in a list that is no entry of it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{field}[{index}]` (`{shown}`) {problem}")]
pub struct BadEntry {
    /// The list.
    pub field: &'static str,
    /// Where in the list, from 0.
    pub index: usize,
    /// The text, escaped, cut short where it is long.
    pub shown: String,
    /// What is wrong with it, and what to write.
    pub problem: InvalidEntry,
}

/// Parses each of a list, up to the first bad one.
///
/// # Errors
/// [`BadEntry`], naming it.
pub(super) fn parse<T>(
    field: &'static str,
    texts: &[String],
    parse_one: impl Fn(&str) -> Result<T, InvalidEntry>,
) -> Result<Vec<T>, BadEntry> {
    let parse_one = |(index, text): (usize, &String)| {
        parse_one(text).map_err(|problem| BadEntry {
            field,
            index,
            shown: text.chars().take(SHOWN_MAX).flat_map(char::escape_debug).collect(),
            problem,
        })
    };
    texts.iter().enumerate().map(parse_one).collect()
}
