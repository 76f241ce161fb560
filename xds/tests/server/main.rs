//! The server with real connections: of a client in Rust, and of a real Envoy.

#![cfg(test)]

mod connections;
mod envoy;
mod support;
