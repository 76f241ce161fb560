//! The results of lookups at the control plane.

/// What is known of something that was asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Known<T> {
    /// It exists.
    Is(T),
    /// It does not exist.
    IsNot,
    /// The control plane can't be asked, and nothing usable is cached.
    CannotAsk,
}
