//! End-to-end tests of a sandbox's outbound traffic.
//!
//! A [`Rig`] consists of three network namespaces that only veth pairs connect:
//!
//! ```text
//! sandbox 192.0.2.2 ── 192.0.2.1 gateway 198.51.100.2 ── 198.51.100.1 internet (all other addresses)
//! ```
//!
//! `gateway` runs the real `sandgate-sidecar` with a real Envoy. `internet` has servers of all kinds on the addresses in
//! [`site`], and a [`Capture`] of every packet that arrives there. No packet leaves the machine, because nothing connects
//! these namespaces to its network. The namespaces are removed at the end, also if a test panics or is killed.

pub mod capture;
pub mod client;
pub mod connection_holder;
pub mod containers;
pub mod custom_server;
pub mod h2c;
pub mod hello;
pub mod load;
pub mod netns;
pub mod process;
pub mod rig;
pub mod servers;
pub mod sidecar;
pub mod site;

pub use capture::{Capture, Packet};
pub use client::{Outcome, Spent};
pub use containers::Containers;
pub use custom_server::CustomServer;
pub use hello::ClientHello;
pub use load::Load;
pub use netns::Namespace;
pub use rig::Rig;
pub use sidecar::{Setup, Sidecar};
