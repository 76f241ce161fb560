//! Settings of the network namespace other than nftables. The agent restores them when it ends.

mod ip;
pub(crate) mod routers;
pub(crate) mod routes;
pub(crate) mod sysctl;

pub(crate) use ip::IpError;
pub(crate) use routes::Routes;
pub(crate) use sysctl::Sysctls;
