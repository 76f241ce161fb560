//! The egress filter: forwards a sandbox's connections and plain HTTP requests if its policy allows them.
//!
//! [`sandgate_engine::egress`] is the state machine.
//!
//! - `process` is what all workers share: the configurations that Envoy has passed to the two filters.
//! - `config` is one configuration of one of the filters, with its counters.
//! - `worker` is what a worker owns: its engine and its live streams, which it evaluates again when another configuration
//!   becomes active.
//! - `connection` receives the hooks of a connection, and `request` those of a plain HTTP request. `report` is what the logs
//!   say about a connection or a request.

mod config;
mod connection;
mod process;
mod report;
mod request;
mod worker;

pub(crate) use config::{ConnectionConfig, HTTP_NAME, RequestConfig};
pub(crate) use connection::{Connection, ConnectionAction};
pub(crate) use request::Request;

use crate::abi::Counter;

/// The counters of a configuration.
type Metrics = sandgate_engine::egress::Metrics<Counter>;
