//! End-to-end tests: a real Envoy with the real filter and configuration, the real control plane,
//! and demo sandboxes.
//!
//! [`run`] gives a test a [`Stack`] of its own: loopback addresses that no other test has, ports that
//! the system chooses, and nothing left over at the end, whatever happens. Envoy runs in a container
//! where an engine answers (always in CI), else as a process; `SANDGATE_E2E_ENVOY` decides.
//!
//! The tests are in `tests/e2e/`, one file for each promise. They mostly wait, so more of them at once
//! than there are processors (`RUST_TEST_THREADS=4` on two) take less time and not more.

pub mod platform;
pub mod stack;

pub use sandgate_stack::control_plane::DOMAIN;
pub use sandgate_stack::{
    Answer, Call, Client, Connection, ControlPlane, Envoy, Network, Owner, Protocol, Sandbox,
};
pub use stack::{API_HOST, NEXT_TOKEN, SECOND_DOMAIN, Setup, Stack, TOKEN, run};
