//! The way out of a sandbox, end to end.
//!
//! A [`Rig`] is three network namespaces of its own, joined by veth pairs and by nothing else:
//!
//! ```text
//! sandbox 192.0.2.2 ── 192.0.2.1 gateway 198.51.100.2 ── 198.51.100.1 internet (all other addresses)
//! ```
//!
//! `gateway` runs the real `sandgate-sidecar` with a real Envoy; `internet` has servers of all kinds on
//! the addresses in [`site`], and a [`Capture`] of every packet that arrives there. No packet leaves
//! the machine: nothing joins these namespaces to its network. They are removed at the end, also when
//! a test panics or is killed.

pub mod capture;
pub mod client;
pub mod containers;
pub mod crowd;
pub mod h2c;
pub mod hello;
pub mod load;
pub mod netns;
pub mod own;
pub mod process;
pub mod rig;
pub mod servers;
pub mod sidecar;
pub mod site;

pub use capture::{Capture, Packet};
pub use client::{Outcome, Spent};
pub use containers::Containers;
pub use hello::ClientHello;
pub use load::Load;
pub use netns::Namespace;
pub use own::Own;
pub use rig::Rig;
pub use sidecar::{Setup, Sidecar};
