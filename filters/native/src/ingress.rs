//! The ingress filter: routes `<port>-<sandbox>.<domain>` into sandboxes, if the caller may.
//!
//! [`sandgate_engine::ingress`] is the state machine.
//!
//! - `process` is what lives as long as Envoy: the bootstrap extension, which ticks and calls the control plane on the main
//!   thread for all hubs.
//! - `shared` is what all workers share: a hub and the inboxes of the workers. `config` is a configuration of the filter,
//!   which has a hub together with all configurations of the same text.
//! - `worker` is what a worker owns: its engine and its streams. `post` is its inbox, which the main thread fills.
//! - `stream` receives the hooks of a stream and passes them to the engine of its worker.
//! - `execute` executes the effects of the engine: `apply` changes headers and sets the upstream.

mod apply;
mod config;
mod execute;
mod post;
mod process;
mod shared;
mod stream;
mod worker;

pub(crate) use config::Config;
pub(crate) use process::Extension;
pub(crate) use stream::Stream;
#[cfg(test)]
pub(crate) use worker::count as worker_count;

/// What Envoy does with headers or trailers after a hook.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Action {
    Continue,
    /// Also after a local reply and a reset.
    Pause,
}
