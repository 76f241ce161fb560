//! Renders the `.nft` files in `rules/`, which contain the chains that don't depend on a policy.

use std::fmt::Display;

/// Replaces each `${name}` with its value. No value may contain a `${name}`. A name without a value stays in the text,
/// which `nft` then refuses.
pub(super) fn fill(template: &str, values: &[(&str, &dyn Display)]) -> String {
    values.iter().fold(template.to_owned(), |text, (name, value)| {
        text.replace(&format!("${{{name}}}"), &value.to_string())
    })
}
