//! The facts that a decision rests on.

use crate::gateway_api::{Identity, Sandbox};
use crate::ingress::concurrency::InFlight;
use crate::ingress::lookup::Lookup;

/// The facts that a decision rests on.
pub struct RequestFacts<'a> {
    /// The sandbox; what [`SandboxRequest::needs_sandbox`] does not ask for is not looked at.
    pub sandbox: &'a Lookup<Sandbox>,
    /// The caller; what [`SandboxRequest::needs_caller`] does not ask for is not looked at.
    pub caller: &'a Lookup<Identity>,
    /// Seconds since the Unix epoch.
    pub now: u64,
    /// Requests to this sandbox in flight through this VM, this one not counted.
    pub in_flight: InFlight,
}
