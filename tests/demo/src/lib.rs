//! A demo sandbox, and clients to try one with.
//!
//! [`server`] is the sandbox: HTTP, WebSocket, gRPC and the management API on one address. Its
//! responses contain the received request, so that a test can check how a gateway changed it.
//! [`client`] has WebSocket and gRPC clients that connect to one address and send another host
//! name. [`proto`] is the generated gRPC service.
//!
//! The demo stands in for a user's app: it checks no credentials and does not limit requests.

pub mod client;
pub mod proto;
pub mod server;
