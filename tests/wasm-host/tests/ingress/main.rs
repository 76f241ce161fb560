//! The built ingress filter in the host, one module per behaviour.
//!
//! One test program, so that the filter is compiled once.

mod bounds;
mod browsers;
mod budgets;
mod caching;
mod chaos;
mod configuration;
mod credentials;
mod decisions;
mod hostile;
mod hygiene;
mod live;
mod lookups;
mod outage;
mod permissions;
mod public;
mod resume;
mod routing;
mod secrecy;
mod shapes;
mod support;
