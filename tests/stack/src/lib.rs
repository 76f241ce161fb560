//! Starts the whole of Sandgate on this machine: the control plane, demo sandboxes, and Envoy.
//!
//! Each program is a child process that ends with its parent ([`Process`]). `make run` calls [`local_run`]. Programs in other
//! languages, such as the tests with real clients, call [`service`]. The end-to-end tests start a stack for each test.

// The files, addresses and ports that a stack needs before it starts.
pub mod artifacts;
pub mod certificate;
pub mod files;
pub mod network;
pub mod pki;
pub mod ports;
pub mod token;

// The parts of a stack.
pub mod control_plane;
pub mod desired_state;
pub mod envoy;
pub mod postgres;
pub mod process;

// The clients and owners by which tests use a stack.
pub mod client;
pub mod owner;
pub mod wait;

// Whole stacks, for tests and for `make run`.
pub mod local_run;
pub mod output;
pub mod rendered;
pub mod service;
pub mod try_commands;

pub use client::{Answer, Call, Client, Connection, Protocol};
pub use control_plane::{ControlPlane, ControlPlaneSetup, Runtime};
pub use envoy::{Envoy, EnvoySetup};
pub use network::Network;
pub use owner::{Owner, Sandbox};
pub use process::Process;
