//! Responses and trailers of live streams.

use sandgate_policy::ingress::head::Head;
use sandgate_policy::ingress::hygiene::{self, HeaderChange};
use sandgate_policy::ingress::response::{
    ResponseDecision, decide_local_reply, decide_response, without_sent_bytes,
};

use crate::ingress::effect::{DenialReply, ResponseAction, StreamId};
use crate::ingress::live::LiveStream;

use super::Engine;

/// The response code details of every response that the upstream sent.
const FROM_UPSTREAM: &[u8] = b"via_upstream";

impl Engine {
    /// The headers of a response have arrived. The response of a stream that is not live is a denial, or comes from the public
    /// API. `code_details` reads Envoy's response code details, which only some responses need.
    ///
    /// # Errors
    /// The error of `code_details`.
    pub fn on_response_headers<E>(
        &self,
        stream: StreamId,
        response: Head<'_>,
        code_details: impl FnOnce() -> Result<Option<Vec<u8>>, E>,
    ) -> Result<ResponseAction, E> {
        let Some(live) = self.live.get(stream) else {
            let changes = without_sent_bytes(response).into_iter().collect();
            return Ok(ResponseAction::Forward(changes));
        };
        let is_local = may_be_local_reply(response) && is_local_reply(code_details()?.as_deref());
        let decision = if is_local {
            decide_local_reply(response, &live.recipient)
        } else {
            decide_response(response, live.request.response_context())
        };
        Ok(match decision {
            ResponseDecision::Forward(changes) => ResponseAction::Forward(changes),
            ResponseDecision::Replace(denial) => {
                ResponseAction::Replace(DenialReply::new(denial, live.recipient.clone()))
            }
        })
    }

    /// The changes to the trailers of a request. Empty if the stream is not live.
    #[must_use]
    pub fn on_request_trailers(&self, stream: StreamId, trailers: Head<'_>) -> Vec<HeaderChange> {
        let clean = |live: &LiveStream| {
            hygiene::clean_request_trailers(trailers, &self.config, live.credential())
        };
        self.live.get(stream).map(clean).unwrap_or_default()
    }

    /// The changes to the trailers of a response. Empty if the stream is not live.
    #[must_use]
    pub fn on_response_trailers(&self, stream: StreamId, trailers: Head<'_>) -> Vec<HeaderChange> {
        let clean = |_| hygiene::clean_response_trailers(trailers);
        self.live.get(stream).map(clean).unwrap_or_default()
    }

    /// Whether a stream is live: forwarded, and not closed.
    #[must_use]
    pub fn is_live(&self, stream: StreamId) -> bool {
        self.live.get(stream).is_some()
    }
}

/// Whether Envoy may have generated the response: its local replies are failures, or have a gRPC status.
fn may_be_local_reply(response: Head<'_>) -> bool {
    let status = response.first(":status").unwrap_or_default();
    matches!(status.first(), Some(b'4' | b'5')) || response.first("grpc-status").is_some()
}

/// Whether the details are those of a local reply. A response without details is from the sandbox.
fn is_local_reply(code_details: Option<&[u8]>) -> bool {
    code_details.is_some_and(|details| !details.is_empty() && details != FROM_UPSTREAM)
}
