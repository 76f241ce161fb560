//! Starts the whole of Sandgate on this machine: the control plane, demo sandboxes, and Envoy.
//!
//! Each program is a child process that ends with its parent ([`Process`]). `make run` calls [`local_run`]. The
//! end-to-end tests start a stack for each test.

pub mod artifacts;
pub mod certificate;
pub mod client;
pub mod control_plane;
pub mod envoy;
pub mod files;
pub mod local_run;
pub mod network;
pub mod output;
pub mod owner;
pub mod pki;
pub mod ports;
pub mod process;
pub mod rendered;
pub mod service;
pub mod try_commands;
pub mod wait;

pub use client::{Answer, Call, Client, Connection, Protocol};
pub use control_plane::{ControlPlane, ControlPlaneSetup, Runtime};
pub use envoy::{Envoy, EnvoySetup};
pub use network::Network;
pub use owner::{Owner, Sandbox};
pub use process::Process;
