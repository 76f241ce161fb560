//! Tests of the policy through its public interface: a table for each step of a request's life,
//! and properties that hold for any input. One binary, so that it links once.
//!
//! A row of a table is one sentence, its input and its outcome as text.

#![cfg(test)]
#![expect(clippy::needless_pass_by_value, reason = "the rows of a table are passed by value")]

mod budget;
mod cache;
mod config_errors;
mod credential_table;
mod decision_table;
mod denials;
mod egress;
mod head_table;
mod host_table;
mod hygiene_table;
mod oracle;
mod origin_table;
mod places;
mod properties;
mod request_line;
mod response_table;
mod standing_table;
mod support;
mod trailers_table;
mod websocket_table;
