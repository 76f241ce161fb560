//! A small, stateful proxy-wasm host on `wasmtime`, to test the filters as they are shipped.
//!
//! It loads a built `.wasm` file, gives it what Envoy gives it (ABI 0.2.1: contexts, header maps,
//! HTTP calls, timers, shared data, queues, metrics, filter state), and lets a test look at what
//! became of a request: forwarded where and with which headers, or answered with what. Tests
//! assert such outcomes and never the order of host calls, so a filter may be rewritten freely.
//!
//! ```no_run
//! use sandgate_wasm_host::{Answer, Headers, Host, Outcome};
//!
//! let host = Host::load("sandgate_ingress");
//! host.control_plane(|call| Answer::status(404));
//! host.configure(r#"{"version": 1}"#).unwrap();
//! let request = host.request(Headers::get("8080-my-env.sandbox.localhost", "/"));
//! host.run();
//! assert_ne!(request.outcome(), Outcome::Pending);
//! ```
//!
//! # What it takes from Envoy
//!
//! - A virtual machine for the main thread and one for each worker; a canary first tries each
//!   configuration. A new configuration is a new root context in the same machine.
//! - A module may hold several filters, told apart by their root ids: they share the machine.
//! - Resuming, replying, resetting and closing happen after the filter's callback has returned.
//! - A request's headers are gone once it was resumed: a filter that reads them then is told
//!   `BadArgument`, on which the SDK panics.
//! - More than 256 replies in one callback are a fault: in Envoy they overflow the machine's stack.
//! - A reply of the filter's own passes its response callback, as every response does.
//! - HTTP calls belong to the root context, whoever made them. Failures come as 503 and 504
//!   responses with a text body.
//! - Shared data, queues and metrics are common to all machines; a queue wakes the machine that
//!   registered it last, on a later turn.
//!
//! # What it does not do
//!
//! Bodies and trailers are not passed to the filter; there are no gRPC calls (a filter that makes
//! one traps). Of a network filter's connections, only the client's bytes are passed to it. A machine
//! that trapped stays dead, and the test fails with the trap's message and backtrace.
//!
//! Time stands still unless a test calls [`Host::advance`].

mod abi;
mod connection;
mod control_plane;
mod filter_state;
mod headers;
mod host;
mod imports;
mod module;
mod shared;
mod stream;
mod vm;
mod world;

pub use connection::{Attributes, Connected, Connection, Upstream};
pub use control_plane::{Answer, Call, Response};
pub use filter_state::{FilterState, LifeSpan};
pub use headers::Headers;
pub use host::{Host, Refused, Stream};
pub use shared::{Log, LogLevel};
pub use stream::{Forwarded, Outcome, Reply};
