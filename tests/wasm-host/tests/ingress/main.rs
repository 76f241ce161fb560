//! The built ingress filter in the host, one module per behaviour.
//!
//! One test program, so that the filter is compiled once. The tests of the native module include most of these files, with
//! another `host`.

use sandgate_wasm_host as host;

mod bounds;
mod browsers;
mod budgets;
mod caching;
mod chaos;
mod configuration;
mod cost;
mod credentials;
mod decisions;
mod denials;
mod guards;
mod host_errors;
mod hostile;
mod live;
mod live_limits;
mod lookups;
mod many_sandboxes;
mod outage;
mod permissions;
mod public;
mod request_hygiene;
mod response_hygiene;
mod resume;
mod resume_limits;
mod routing;
mod secrecy;
mod shapes;
mod support;
