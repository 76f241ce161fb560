//! The server with real connections: of a client in Rust, and of a real Envoy.

#![cfg(test)]

mod bounds;
mod changes;
mod client;
mod connections;
mod envoy;
mod groups;
mod support;
