//! Step 7: whether a sandbox's response may go on, and with which changes.

use super::denial::{Denial, InvalidResponse};
use super::head::Head;
use super::hygiene::{HeaderChange, clean_response, reduce_connection};
use super::response_context::ResponseContext;

/// A status that the gateway passes on.
///
/// Other numbers mean something else to each proxy in front: 101 without an upgrade makes some of them a
/// raw tunnel, and 000 or 999 are no status at all (RFC 9110, section 15).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ResponseStatus {
    /// 101: the connection speaks another protocol from here on.
    SwitchingProtocols,
    /// 200 to 299.
    Success,
    /// 300 to 599.
    Other,
}

impl ResponseStatus {
    /// Parses the `:status` of a response's headers.
    ///
    /// # Errors
    /// When it is not three digits, or a number that is never passed on.
    pub fn parse(text: &[u8]) -> Result<Self, InvalidResponse> {
        match text {
            b"101" => Ok(Self::SwitchingProtocols),
            [b'2', b'0'..=b'9', b'0'..=b'9'] => Ok(Self::Success),
            [b'3'..=b'5', b'0'..=b'9', b'0'..=b'9'] => Ok(Self::Other),
            _ => Err(InvalidResponse::Status),
        }
    }
}

/// What is to be done with a response.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ResponseDecision {
    /// Pass it on with these changes.
    Forward(Vec<HeaderChange>),
    /// Send this denial instead.
    Refuse(Denial),
}

/// Judges the headers of a response.
#[must_use]
pub fn evaluate(response: Head<'_>, context: &ResponseContext) -> ResponseDecision {
    match invalid(response, context) {
        Some(reason) => ResponseDecision::Refuse(Denial::UpstreamInvalid(reason)),
        None => ResponseDecision::Forward(changes(response, context)),
    }
}

fn invalid(response: Head<'_>, context: &ResponseContext) -> Option<InvalidResponse> {
    let Ok(status) = response.single(":status") else { return Some(InvalidResponse::Status) };
    match (ResponseStatus::parse(status.unwrap_or_default()), context.is_websocket()) {
        (Err(reason), _) => Some(reason),
        // RFC 6455, section 4.1: the 101 names the protocol, or the client must not believe it.
        (Ok(ResponseStatus::SwitchingProtocols), true)
            if response.lists("upgrade", "websocket") =>
        {
            None
        }
        (Ok(ResponseStatus::SwitchingProtocols), _) => Some(InvalidResponse::SwitchedProtocols),
        // An app that does not know the upgrade may answer the request. Envoy loses the body of such a
        // response over HTTP/1.1; over HTTP/2 any 2xx opens the socket, and a script of another site
        // would read the body as if it were messages (RFC 8441, section 5).
        (Ok(ResponseStatus::Success), true) => Some(InvalidResponse::NotSwitched),
        (Ok(ResponseStatus::Success | ResponseStatus::Other), _) => None,
    }
}

fn changes(response: Head<'_>, context: &ResponseContext) -> Vec<HeaderChange> {
    let mut changes = clean_response(response, context.authority());
    if response.first(":status") == Some(b"101") {
        changes.extend(reduce_connection(response));
    }
    changes
}
