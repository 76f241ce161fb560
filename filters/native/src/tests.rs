//! Tests of the module, whose hooks a host calls that is not Envoy.

mod connections;
pub(crate) mod envoy;
mod faults;
mod forms;
mod interleavings;
mod requests;
mod streams;
mod suite;
