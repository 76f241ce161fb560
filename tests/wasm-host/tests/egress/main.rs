//! The built egress filter in the host, one module per behaviour.
//!
//! One test program, so that the filter is compiled once.

mod bounds;
mod configuration;
mod connections;
mod denied_addresses;
mod hello;
mod hostile;
mod late;
mod live;
mod requests;
mod support;
