//! What the host does for the engine.

use std::time::Duration;

use sandgate_policy::gateway_api::{MARKER_HEADER, MARKER_VALUE};
use sandgate_policy::ingress::Permit;
use sandgate_policy::ingress::denial::Denial;
use sandgate_policy::ingress::head::Head;
use sandgate_policy::ingress::hygiene::HeaderChange;
use sandgate_policy::ingress::recipient::Recipient;

/// A stream: one request and its response. The host chooses a number that no other stream of this
/// engine ever has.
pub type StreamId = u32;

/// A call to the control plane.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct CallId(u64);

#[derive(Debug, Default)]
pub(crate) struct CallIds(u64);

impl CallIds {
    pub(crate) fn next(&mut self) -> CallId {
        self.0 = self.0.wrapping_add(1);
        CallId(self.0)
    }
}

/// The action for the headers of a request. The same actions for a request that has waited are [`Effect`]s.
pub enum RequestAction<'a> {
    /// Pause the request. A later effect decides it.
    Wait,
    /// Forward the request to the sandbox. If that fails, call
    /// [`Engine::on_forward_failed`](crate::ingress::Engine::on_forward_failed).
    Forward(Forward<'a>),
    /// Apply these changes, and forward the request to the public API.
    ForwardToApi(Vec<HeaderChange>),
    /// Answer the CORS preflight of a trusted origin.
    AnswerPreflight {
        /// As the operator writes it.
        origin: String,
    },
    Deny(DenialReply),
}

/// A request that may go to a sandbox.
pub struct Forward<'a> {
    /// Holds the upstream address.
    pub permit: &'a Permit,
    /// The header changes, in order. They come before the upstream is set.
    pub changes: Vec<HeaderChange>,
}

/// The local reply that denies a request.
#[derive(Debug)]
pub struct DenialReply {
    pub denial: Denial,
    /// The client that receives the reply.
    pub recipient: Recipient,
    /// Seconds for `Retry-After`, if they differ from the denial's own.
    pub retry_after: Option<u32>,
}

impl DenialReply {
    /// A denial with the denial's own `Retry-After`.
    #[must_use]
    pub fn new(denial: Denial, recipient: Recipient) -> Self {
        Self { denial, recipient, retry_after: None }
    }
}

/// The action for the headers of a response.
#[derive(Debug)]
pub enum ResponseAction {
    /// Apply these changes, and forward the response.
    Forward(Vec<HeaderChange>),
    Replace(DenialReply),
}

/// An effect, to be executed in the callback that caused it, in order. A stream that an effect names
/// has not ended.
pub enum Effect {
    /// Prepare to be woken, then call [`Hub::start`](crate::ingress::Hub::start). It comes with the first
    /// request and not with the configuration, because Envoy also configures filters that never
    /// receive a request.
    Start,
    /// Call [`Engine::on_wake`](crate::ingress::Engine::on_wake) soon, after the current callback. If this fails,
    /// the next tick does the work.
    Wake,
    /// Call [`Hub::run`](crate::ingress::Hub::run) soon, on the thread that drives the hub. If this fails, the next tick
    /// does the work.
    RunHub,
    /// Continue a paused request: pass its headers to [`Engine::forward`](crate::ingress::Engine::forward).
    Forward(StreamId),
    /// Answer the CORS preflight of a paused request.
    AnswerPreflight {
        stream: StreamId,
        /// As the operator writes it.
        origin: String,
        recipient: Recipient,
    },
    /// Deny a paused request.
    Deny(StreamId, DenialReply),
    /// Reset a live stream, then call [`Engine::on_stream_end`](crate::ingress::Engine::on_stream_end). If the reset
    /// fails, call [`Engine::on_close_failed`](crate::ingress::Engine::on_close_failed).
    Close {
        stream: StreamId,
        /// The reason, for access logs.
        reason: &'static str,
    },
    /// Pass the client of a live stream to [`Engine::on_client`](crate::ingress::Engine::on_client).
    ReadClient(StreamId),
    /// Pass the number of bytes that were sent on a live stream to
    /// [`Engine::on_byte_count`](crate::ingress::Engine::on_byte_count).
    ReadByteCount(StreamId),
    /// Count a denial whose lookups are repeated.
    RecheckStarted,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CallKind {
    Sandbox,
    Caller,
    Resume,
    /// A poll of the change feed.
    Changes,
}

/// A call to the control plane. No `Debug`: the body may hold a secret.
pub struct Call {
    /// To be passed back with the response.
    pub id: CallId,
    pub method: &'static str,
    pub path: String,
    /// A JSON body.
    pub body: Option<Vec<u8>>,
    /// After this time the call has failed.
    pub timeout: Duration,
}

pub struct CallResponse<'a> {
    /// Including `:status`.
    pub headers: Head<'a>,
    pub body: &'a [u8],
}

impl CallResponse<'_> {
    /// Whether the control plane itself responded with 200. Envoy's own failures are responses without the marker.
    pub(crate) fn is_success(&self) -> bool {
        self.has_marker() && self.status() == 200
    }

    pub(crate) fn has_marker(&self) -> bool {
        self.headers.first(MARKER_HEADER) == Some(MARKER_VALUE.as_bytes())
    }

    /// 0 if there is none.
    pub(crate) fn status(&self) -> u16 {
        let digits =
            self.headers.first(":status").and_then(|value| std::str::from_utf8(value).ok());
        digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
    }
}
