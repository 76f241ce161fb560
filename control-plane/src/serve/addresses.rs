//! Where a server listens, for the line that says that it is ready.

use std::net::SocketAddr;

/// Where a server listens.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// The URL of the public API.
    pub api: String,
    /// The URL of the gateway API.
    pub gateway: String,
    pub admin: Option<SocketAddr>,
    pub metrics: Option<SocketAddr>,
    pub xds: Option<SocketAddr>,
}
