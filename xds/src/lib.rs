//! Delta ADS for the edges: the protocol, the resources, and the server.

pub mod bootstrap;
pub mod descriptors;
pub mod envoy_version;
pub mod keys;
pub mod kind;
pub mod members;
pub mod nodes;
pub mod resources;
pub mod server;
pub mod session;
pub mod snapshot;
pub mod snapshots;
pub mod state;
pub mod tls;
pub mod token_file;
pub mod wire;
mod yaml;

pub use kind::Kind;
pub use session::Session;
pub use snapshot::{Resource, Snapshot, Version};
pub use snapshots::Snapshots;
pub use yaml::{YamlError, parse_yaml};
