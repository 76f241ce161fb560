//! The result of a lookup.

/// The result of looking up a sandbox or the identity of a credential, in the cache or at the control plane.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Lookup<T> {
    /// The sandbox exists, or the credential is valid.
    Found(T),
    /// The sandbox does not exist, or the credential is not valid.
    NotFound,
    /// The control plane is unavailable, and the cache has no entry that is still usable.
    Unavailable,
}
