//! The agent of one sandbox: the only policy client that the sandbox has. It feeds three enforcers
//! (its own Envoy, its DNS proxy, nftables) from one generation of the policy.
//!
//! ```text
//! sandbox ──► nftables ──┬─ port 53 ─► dns ──────────────► resolvers
//!                        └─ TCP ─────► Envoy (EGRESS.WASM) ─► internet
//!                                        └─ names ─► dns (inner resolver)
//! ```
//!
//! Start reading at [`agent`], which is its life. A policy comes from a [`source`], is compiled to a
//! [`generation`] for all three, with what [`denied_names`] finds out, and the [`gate`] opens when all three
//! have it.

pub mod agent;
pub mod cli;
pub mod denied_names;
pub mod dns;
pub mod envoy;
pub mod gate;
pub mod generation;
pub mod host;
pub mod metrics;
pub mod netlink;
pub mod nftables;
pub mod refusals;
pub mod settings;
pub mod source;
pub mod status;
pub mod virtual_addresses;

pub use agent::{AgentError, run};
pub use settings::{Bounds, Settings, Source};
