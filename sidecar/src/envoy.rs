//! The sandbox's own Envoy: its files, its process, and what it says of itself.

pub mod child;
pub mod files;
pub mod local_http;
pub mod probe;

pub use child::{Child, Program};
pub use files::Files;
