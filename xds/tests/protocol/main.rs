//! The protocol against a model of a client.

#![cfg(test)]

mod bounds;
mod client;
mod faults;
mod properties;
mod requests;
