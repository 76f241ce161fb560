//! Requests into a sandbox: a table for each step, and properties that hold for any input.

mod budget;
mod cache;
mod config_errors;
mod credential_table;
mod decision_table;
mod denials;
mod head_table;
mod host_table;
mod hygiene_table;
mod oracle;
mod origin_table;
mod places;
mod properties;
mod response_table;
mod standing_table;
mod support;
mod trailers_table;
mod websocket_table;
