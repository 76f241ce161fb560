//! Names for people: of organizations, projects, users and keys.

/// The text without spaces around it, if it has 1 to 200 characters on one line. Nobody can write lines of a log with it.
#[must_use]
pub fn parse_label(text: &str) -> Option<&str> {
    let text = text.trim();
    let is_valid = !text.is_empty() && text.len() <= 200 && !text.chars().any(char::is_control);
    is_valid.then_some(text)
}
