//! The properties of a request on which the evaluation of its response depends.

use super::authority::Authority;
use super::head::Head;

/// The properties of a request on which the evaluation of its response depends. They are kept until the response
/// arrives, because the filter can't read the request's headers then.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ResponseContext {
    authority: Authority,
    is_websocket: bool,
}

impl ResponseContext {
    /// The properties of the request with this authority and this head.
    #[must_use]
    pub fn new(authority: Authority, head: Head<'_>) -> Self {
        Self { authority, is_websocket: head.is_websocket() }
    }

    /// The authority that the client sent the request to.
    pub(super) fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Whether the request asks for a WebSocket.
    pub(super) fn is_websocket(&self) -> bool {
        self.is_websocket
    }
}
