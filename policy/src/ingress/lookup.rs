//! The results of lookups at the control plane.

/// What is known of something that was asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Lookup<T> {
    /// It exists.
    Found(T),
    /// It does not exist.
    NotFound,
    /// The control plane can't be asked, and nothing usable is cached.
    Unavailable,
}
