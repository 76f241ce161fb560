//! A small, stateful proxy-wasm host on `wasmtime`, for tests of the built filters.
//!
//! It loads a `.wasm` file and provides what Envoy provides (ABI 0.2.1: contexts, header maps, HTTP
//! calls, timers, shared data, queues, metrics, filter state). A test checks the outcome of a
//! request: the upstream and headers of a forwarded request, or the reply. Tests assert outcomes
//! and never the order of host calls, so that the filters can be refactored freely.
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
//! # What works as in Envoy
//!
//! - The main thread and each worker have a virtual machine (VM). A canary VM tries each
//!   configuration first. A new configuration is a new root context in the same VM.
//! - A module may contain several filters with different root ids, which share a VM.
//! - Resuming, replying, resetting and closing take effect after the filter's callback has
//!   returned.
//! - A request's headers are not readable after it was resumed: the host call returns
//!   `BadArgument`, on which the SDK panics.
//! - More than 256 replies in one callback are an error, because they would overflow the VM's stack
//!   in Envoy.
//! - The filter's own reply passes its response callback, as every response does.
//! - HTTP calls belong to the root context, whichever context made them. Failures are 503 and 504
//!   responses with a text body.
//! - All VMs share the shared data, queues and metrics. A queue wakes the VM that registered it
//!   last, in a later iteration of the event loop.
//!
//! # What it does not support
//!
//! Bodies and trailers are not passed to the filter. There are no gRPC calls: a filter that makes
//! one traps. A network filter receives only the bytes of the client. A VM that trapped stays dead,
//! and the test fails with the trap's message and backtrace.
//!
//! The clock advances only in [`Host::advance`].
//!
//! # Modules
//!
//! From a test's call to the filter: `host`, `stream` and `connection` are the API for tests, `envoy`
//! is the handle that they share, `module` loads a filter, `world` is the event loop, and
//! `control_plane` responds to calls. `vm` calls the filter's callbacks, and `imports` are the host
//! calls that the filter makes, which `cost` counts. `shared` is the state of all VMs; `local_reply`, `filter_state`,
//! `headers` and `abi` are formats.

mod abi;
mod connection;
mod control_plane;
mod cost;
mod envoy;
mod filter_state;
mod headers;
mod host;
mod imports;
mod local_reply;
mod module;
mod shared;
mod stream;
mod vm;
mod world;

pub use connection::{Attributes, Connected, Connection, Upstream};
pub use control_plane::{Answer, Call, Reaction, Response, timed_out};
pub use cost::{Cost, check_budget};
pub use filter_state::{FilterState, LifeSpan};
pub use headers::Headers;
pub use host::{Host, Refused};
pub use local_reply::LocalReply;
pub use shared::{Log, LogLevel};
pub use stream::{Forwarded, Outcome, Reply, Stream};

/// Whether the workers of one Envoy share the caches, the lookups, and the change feed. VMs share no memory.
pub const WORKERS_SHARE_A_HUB: bool = false;
