//! The properties of a request on which the evaluation of its response depends.

use super::authority::HostName;
use super::head::Head;

/// The properties of a request on which the evaluation of its response depends. They are kept until the response
/// arrives, because the filter can't read the request's headers then.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ResponseContext {
    host: HostName,
    is_websocket: bool,
}

impl ResponseContext {
    /// The properties of the request to this host and with this head.
    #[must_use]
    pub fn new(host: HostName, head: Head<'_>) -> Self {
        Self { host, is_websocket: head.is_websocket() }
    }

    /// The host name that the client sent the request to.
    pub(super) fn host(&self) -> &HostName {
        &self.host
    }

    /// Whether the request asks for a WebSocket.
    pub(super) fn is_websocket(&self) -> bool {
        self.is_websocket
    }
}
