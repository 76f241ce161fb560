//! The facts that a decision rests on.

use std::sync::Arc;

use crate::gateway_api::Identity;
use crate::ingress::concurrency::InFlight;
use crate::ingress::lookup::{KnownSandbox, Resolved};

/// The facts that a decision rests on.
pub struct RequestFacts<'a> {
    /// The sandbox. It is ignored if [`SandboxRequest::needs_sandbox`] is false.
    ///
    /// [`SandboxRequest::needs_sandbox`]: crate::ingress::SandboxRequest::needs_sandbox
    pub sandbox: &'a Resolved<Arc<KnownSandbox>>,
    /// The identity of the caller. It is ignored if [`SandboxRequest::needs_caller`] is false.
    ///
    /// [`SandboxRequest::needs_caller`]: crate::ingress::SandboxRequest::needs_caller
    pub caller: &'a Resolved<Arc<Identity>>,
    /// The time, in seconds since the Unix epoch.
    pub now: u64,
    /// The requests to this sandbox that are in flight through this VM, without the current one.
    pub in_flight: InFlight,
}
