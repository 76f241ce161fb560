//! The agent of one sandbox. It applies one policy generation to three enforcers: the sandbox's Envoy, its DNS proxy,
//! and nftables.
//!
//! ```text
//! sandbox ──► nftables ──┬─ port 53 ─► dns ──────────────► resolvers
//!                        └─ TCP ─────► Envoy (EGRESS FILTER) ─► internet
//!                                        └─ names ─► dns (Envoy's listener)
//! ```
//!
//! [`cli`] parses the options and runs [`agent`], which is the place to start reading. The agent receives a policy from
//! a [`source`], compiles it to a [`generation`], rolls it out to [`nftables`], [`dns`] and [`envoy`], and opens the
//! [`gate`] when all three apply it.
//!
//! Public are the program and the modules that tests and benchmarks call.

pub mod cli;
mod settings;

mod agent;
pub mod source;

pub mod denied_names;
mod generation;
mod virtual_addresses;

mod gate;
mod host;
mod netlink;
pub mod nftables;

pub mod dns;

mod envoy;

pub mod denials;
mod packet_log;
mod report;
