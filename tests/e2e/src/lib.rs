//! End-to-end tests: a real Envoy with the real filter and configuration, the real control plane,
//! and demo sandboxes.
//!
//! [`run`] starts a separate [`Stack`] for a test, with loopback addresses that no other test uses and ports that the system
//! chooses, and stops all of it at the end. Envoy runs in a container if a container engine responds, and always in CI; otherwise
//! it runs as a process. `SANDGATE_E2E_ENVOY` overrides this. `SANDGATE_E2E_UPSTREAM` is the edge's setting `SANDGATE_UPSTREAM`.
//!
//! The tests are in `tests/e2e/`, one file for each promise to users. They mostly wait, so they take less time if more of them
//! run at once than there are processors (`RUST_TEST_THREADS=4` with two processors).

pub mod fleet;
pub mod platform;
pub mod setup;
pub mod stack;

pub use fleet::{Fleet, run_fleet};
pub use sandgate_envoy_config::Filters;
pub use sandgate_envoy_config::Upstream;
pub use sandgate_stack::control_plane::DOMAIN;
pub use sandgate_stack::{
    Answer, Call, Client, Connection, ControlPlane, Envoy, Network, Owner, Protocol, Sandbox,
};
pub use setup::{Setup, TlsToControlPlane};
pub use stack::{
    API_HOST, NEXT_TOKEN, SECOND_DOMAIN, Stack, TOKEN, WORKERS, run, upstream_of_this_run,
};
