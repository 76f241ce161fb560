//! Sandgate's rules, without I/O, clock, or runtime. Time is a parameter.
//!
//! | module | contents |
//! |---|---|
//! | [`ids`] | the identifiers that both directions and the control plane share |
//! | [`denials`] | reports of denials, for owners of sandboxes |
//! | [`gateway_api`] | the types of the API between the filters and the control plane |
//! | [`header`] | a header field, as both filters read it |
//! | [`request_line`] | the check of the path (both directions) and of the method (egress) |
//! | [`ingress`] | requests into a sandbox |
//! | [`egress`] | connections out of a sandbox |

#![warn(missing_docs)]

mod dns_label;
pub mod ids;

pub mod denials;
pub mod gateway_api;
pub mod header;
pub mod request_line;

pub mod ingress;

pub mod egress;
