//! The sandbox or the identity that a request refers to, once it is resolved.

/// The sandbox or identity that was resolved, from the cache or by a lookup.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Resolved<T> {
    /// The sandbox exists, or the credential is valid.
    Found(T),
    /// The sandbox does not exist, or the credential is not valid.
    NotFound,
    /// The control plane is unavailable, and the cache has no entry that is still usable.
    Unavailable,
}
