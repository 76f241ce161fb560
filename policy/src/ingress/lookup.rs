//! The sandbox or the identity that a request refers to, once it is resolved.

use std::net::IpAddr;
use std::ops::Deref;

use crate::gateway_api::Sandbox;

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

impl<T> From<Option<T>> for Resolved<T> {
    fn from(found: Option<T>) -> Self {
        found.map_or(Self::NotFound, Self::Found)
    }
}

/// A sandbox, with the texts that every forwarded request to it needs. They are written once, when the sandbox is
/// cached.
#[derive(Debug, Eq, PartialEq)]
pub struct KnownSandbox {
    sandbox: Sandbox,
    connection_group: Box<str>,
    upstream_host: Box<str>,
}

impl KnownSandbox {
    /// The key of the upstream connection pool: the sandbox and its address generation. Requests share connections only
    /// if they have the same key.
    #[must_use]
    pub fn connection_group(&self) -> &str {
        &self.connection_group
    }

    /// The address as text, in brackets if it is an IPv6 address. Empty while the sandbox has no address.
    #[must_use]
    pub fn upstream_host(&self) -> &str {
        &self.upstream_host
    }
}

impl From<Sandbox> for KnownSandbox {
    fn from(sandbox: Sandbox) -> Self {
        let host = |address| match address {
            IpAddr::V4(address) => address.to_string(),
            // The form that can be followed by a port.
            IpAddr::V6(address) => format!("[{address}]"),
        };
        Self {
            connection_group: format!("{}:{}", sandbox.id, sandbox.generation).into(),
            upstream_host: sandbox.address.map(host).unwrap_or_default().into(),
            sandbox,
        }
    }
}

impl Deref for KnownSandbox {
    type Target = Sandbox;

    fn deref(&self) -> &Sandbox {
        &self.sandbox
    }
}
