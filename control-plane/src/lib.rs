//! Sandgate's control plane: the owners' API, the API that ingress filters and sidecars call, the store
//! and the runtimes in which sandboxes live.
//!
//! ```text
//! owner ──► api ─────┐
//!                    ├──► sandboxes ──► runtime (local │ webhook)
//! filter ─► gateway ─┘      │
//!                           └──► db ──► store (SQLite)   every write wakes the change feed
//! ```
//!
//! [`api`] and [`gateway`] know HTTP and nothing of SQL; [`sandboxes`] holds the rules of a sandbox's
//! life; [`store`] is one trait with one contract test suite.

pub mod api;
pub mod cli;
pub mod db;
pub mod feed;
pub mod gateway;
pub mod http;
pub mod model;
mod project_queue;
pub mod random;
pub mod runtime;
pub mod sandboxes;
pub mod serve;
pub mod store;
pub mod watchers;
