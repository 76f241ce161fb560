//! The egress filter: forwards a sandbox's connections and plain HTTP requests if its policy allows them.
//!
//! [`sandgate_engine::egress`] is the state machine.
//!
//! - `process` is what all workers share: the configurations that Envoy has passed to the two filters.
//! - `config` is one configuration of one of the filters, with its counters.
//! - `worker` is what a worker owns: its engine and its live streams, which it evaluates again when another configuration
//!   becomes active.
//! - `connection` receives the hooks of a connection, and `request` those of a plain HTTP request.

mod config;
mod connection;
mod process;
mod request;
mod worker;

pub(crate) use config::{ConnectionConfig, HTTP_NAME, RequestConfig};
pub(crate) use connection::{Connection, ConnectionAction};
pub(crate) use request::Request;

use crate::abi::{Counter, Result};
use sandgate_engine::egress::Decision;

/// The counters of a configuration.
type Metrics = sandgate_engine::egress::Metrics<Counter>;

/// Shows a decision to access logs. Envoy takes each property once, so this is done when the stream has ended.
fn show(decision: &Decision, set_property: impl Fn(&str, &str) -> Result<()>) {
    // A decision takes effect even if Envoy refuses to show it.
    let _ = set_property("wasm.sandgate_decision", decision.outcome.name());
    let _ = set_property("wasm.sandgate_rule", &decision.rule.to_string());
    let _ = set_property("wasm.sandgate_generation", &decision.generation.to_string());
}
