//! Clients that connect to a given address but send another host name, as if DNS resolved the host
//! name to that address.
//!
//! Both take a [`Target`]. [`websocket::open`] opens a WebSocket, or returns the response that
//! refused the upgrade. [`grpc::connect`] returns clients for the echo, health and reflection
//! services.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use sandgate_demo::client::{Target, grpc, websocket};
//! use sandgate_demo::proto::EchoRequest;
//!
//! let target = Target::new("ws://3000-my-env.sandbox.localhost:9443/socket")?
//!     .via("127.0.0.1:9443")
//!     .header("authorization", "Bearer …")?;
//! let socket = websocket::open(&target).await?.socket;
//!
//! let target = Target::new("http://50051-my-env.sandbox.localhost:9443")?.via("127.0.0.1:9443");
//! let reply = grpc::connect(&target).await?.echo().echo(EchoRequest::default()).await?;
//! # Ok(())
//! # }
//! ```

pub mod grpc;
mod target;
pub mod websocket;

pub use self::target::{InvalidTarget, Target};
