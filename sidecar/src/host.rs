//! Settings of the network namespace other than nftables. The agent restores them when it ends.

pub mod routers;
pub mod routes;
pub mod sysctl;

pub use routes::Routes;
pub use sysctl::Sysctls;
