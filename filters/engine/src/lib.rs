//! The filters without their host: for each direction, the state machine of one worker.
//!
//! The host passes events in and executes the effects that come back. This crate calls no host and reads no
//! clock, so it is tested natively, and any host can use it. It makes no authorization decision:
//! [`sandgate_policy`] does.
//!
//! * [`ingress`]: requests to sandboxes. It also enforces the limits on waiting and resuming.
//! * [`egress`]: connections and plain HTTP requests of one sandbox.

pub mod egress;
pub mod ingress;
