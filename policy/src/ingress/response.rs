//! The decision about a response of a sandbox, or of Envoy in its place: whether it is forwarded, and with which changes.

use super::denial::{Denial, InvalidResponse};
use super::head::Head;
use super::hygiene::{HeaderChange, clean_response, reduce_connection};
use super::recipient::Recipient;
use super::response_context::ResponseContext;

/// A status that the gateway forwards.
///
/// Proxies in front of the edge interpret all others differently: 101 without an upgrade turns some of them into a raw
/// tunnel, and 000 or 999 are not valid (RFC 9110, section 15).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ResponseStatus {
    /// 101: the connection switches to another protocol.
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
    /// [`InvalidResponse::Status`], if the status is not three digits, or is never forwarded.
    pub fn parse(text: &[u8]) -> Result<Self, InvalidResponse> {
        match text {
            b"101" => Ok(Self::SwitchingProtocols),
            [b'2', b'0'..=b'9', b'0'..=b'9'] => Ok(Self::Success),
            [b'3'..=b'5', b'0'..=b'9', b'0'..=b'9'] => Ok(Self::Other),
            _ => Err(InvalidResponse::Status),
        }
    }
}

/// The action for a response.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ResponseDecision {
    /// Forward the response with these changes.
    Forward(Vec<HeaderChange>),
    /// Discard the response, and send this denial in its place.
    Replace(Denial),
}

/// The number of bytes that all attempts to forward a request have sent. `edge.yaml` adds this header to Envoy's own
/// failures.
const SENT_BYTES: &str = "x-sandgate-sent";

/// Decides about a response by its headers.
#[must_use]
pub fn decide_response(response: Head<'_>, context: &ResponseContext) -> ResponseDecision {
    match invalid(response, context) {
        Some(reason) => ResponseDecision::Replace(Denial::UpstreamInvalid(reason)),
        None => ResponseDecision::Forward(changes(response, context)),
    }
}

/// Decides about a response that Envoy has generated for a permitted request of this recipient.
///
/// Envoy may make a second attempt, and its status describes only the last one. A 503 promises that nothing was forwarded, so
/// a failure after an attempt that sent something becomes a 502.
#[must_use]
pub fn decide_local_reply(response: Head<'_>, recipient: &Recipient) -> ResponseDecision {
    let without_header = without_sent_bytes(response);
    if without_header.is_some() && response.all(SENT_BYTES).any(|bytes| bytes != b"0") {
        return ResponseDecision::Replace(Denial::UpstreamReset);
    }
    let changes = recipient.complete_local_reply();
    ResponseDecision::Forward(without_header.into_iter().chain(changes).collect())
}

/// The removal of the header by which `edge.yaml` informs [`decide_local_reply`], if the response has it.
#[must_use]
pub fn without_sent_bytes(response: Head<'_>) -> Option<HeaderChange> {
    response.first(SENT_BYTES).map(|_| HeaderChange::Remove(SENT_BYTES.to_owned()))
}

fn invalid(response: Head<'_>, context: &ResponseContext) -> Option<InvalidResponse> {
    let Ok(status) = response.single(":status") else { return Some(InvalidResponse::Status) };
    match (ResponseStatus::parse(status.unwrap_or_default()), context.is_websocket()) {
        (Err(reason), _) => Some(reason),
        // A client must fail the connection if the 101 does not name the protocol (RFC 6455, section 4.1).
        (Ok(ResponseStatus::SwitchingProtocols), true)
            if response.lists("upgrade", "websocket") =>
        {
            None
        }
        (Ok(ResponseStatus::SwitchingProtocols), _) => Some(InvalidResponse::SwitchedProtocols),
        // An app that does not support the upgrade may answer the request as usual. Over HTTP/1.1, Envoy loses the body
        // of such a response. Over HTTP/2, any 2xx opens the WebSocket, and a script of another site could read the
        // body as messages (RFC 8441, section 5).
        (Ok(ResponseStatus::Success), true) => Some(InvalidResponse::NotSwitched),
        (Ok(ResponseStatus::Success | ResponseStatus::Other), _) => None,
    }
}

fn changes(response: Head<'_>, context: &ResponseContext) -> Vec<HeaderChange> {
    let mut changes = clean_response(response, context.host());
    if response.first(":status") == Some(b"101") {
        changes.extend(reduce_connection(response));
    }
    changes
}
