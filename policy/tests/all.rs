//! Tests of the policy through its public interface: a table for each step of a request's life,
//! and properties that hold for any input. One binary, so that it links once.
//!
//! A row of a table is one sentence, its input and its outcome as text.

#![cfg(test)]
#![expect(clippy::needless_pass_by_value, reason = "the rows of a table are passed by value")]

mod denials;
mod egress;
mod ids;
mod ingress;
mod request_line;
