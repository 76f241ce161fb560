//! End-to-end tests: a real Envoy with the real filter and configuration, the real control plane,
//! and demo sandboxes.
//!
//! [`run`] gives a test a [`Stack`] of its own: loopback addresses that no other test has, ports that
//! the system chooses, and nothing left over at the end, whatever happens. Envoy runs in a container
//! where an engine answers (always in CI), else as a process; `SANDGATE_E2E_ENVOY` decides.
//!
//! The tests are in `tests/e2e/`, one file for each promise. They mostly wait, so more of them at once
//! than there are processors (`RUST_TEST_THREADS=4` on two) take less time and not more.

pub mod artifacts;
pub mod client;
pub mod control_plane;
pub mod envoy;
pub mod network;
pub mod pki;
pub mod platform;
pub mod process;
pub mod stack;
pub mod wait;

pub use client::{Answer, Call, Client, Connection, Protocol};
pub use control_plane::{DOMAIN, Owner, Sandbox};
pub use envoy::Envoy;
pub use stack::{API_HOST, SECOND_DOMAIN, Setup, Stack, run};
