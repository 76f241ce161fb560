//! Requests into a sandbox: a table for each step, and properties that hold for any input.

mod cache;
mod concurrency;
mod config_errors;
mod credential_table;
mod decision_table;
mod denials;
mod documentation;
mod head_table;
mod host_table;
mod hygiene_table;
mod message_table;
mod oracle;
mod origin_table;
mod properties;
mod reevaluation_table;
mod response_table;
mod slots;
mod support;
mod trailers_table;
mod websocket_table;
