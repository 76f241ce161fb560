//! The ingress filter: routes `<port>-<sandbox>.<domain>` into sandboxes, if the caller may.
//!
//! [`sandgate_engine::ingress`] is the state machine.
//!
//! - `config` is what all workers share: the configuration, the counters, and the hub, whose calls to the control plane
//!   Envoy sends on its main thread.
//! - `worker` is what a worker owns: its engine and its streams. `post` is its inbox, which the main thread fills.
//! - `stream` receives the hooks of a stream and passes them to the engine of its worker.
//! - `execute` executes the effects of the engine: `apply` changes headers and sets the upstream.

mod apply;
mod config;
mod execute;
mod post;
mod stream;
mod worker;

pub(crate) use config::Config;
pub(crate) use stream::{Action, Stream};
