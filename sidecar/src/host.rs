//! What the agent sets in its network namespace besides nftables, and puts back when it ends.

pub mod routers;
pub mod routes;
pub mod sysctl;

pub use routes::Routes;
pub use sysctl::Sysctls;
