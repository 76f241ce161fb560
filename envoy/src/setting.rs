//! Settings whose values have names.

/// A text is not the name of a value.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("expected {0}")]
pub struct UnknownName(
    /// The valid names, as a part of a sentence.
    pub(crate) &'static str,
);

/// The value with this name.
pub(crate) fn named<T: Copy>(
    text: &str,
    values: &[T],
    name: fn(T) -> &'static str,
    names: &'static str,
) -> Result<T, UnknownName> {
    values.iter().copied().find(|value| name(*value) == text).ok_or(UnknownName(names))
}
