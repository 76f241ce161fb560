//! The protocol against a model of a client.

#![cfg(test)]

mod client;
mod faults;
mod properties;
mod requests;
