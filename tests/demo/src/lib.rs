//! A demo sandbox and the clients to try one with.
//!
//! [`server`] is the sandbox: HTTP, WebSocket, gRPC and the management API on one address, all of
//! which answer with what they received, so that a test sees what a gateway in front of it did to
//! a request. [`client`] has the WebSocket and gRPC clients that connect to one address while
//! naming another host, and [`proto`] the generated gRPC service.
//!
//! Nothing here checks credentials or limits what a caller may ask for: it plays the user's app.

pub mod client;
pub mod proto;
pub mod server;
