//! Judges and cleans the responses and trailers of permitted streams.

use proxy_wasm::types::Action;
use sandgate_hostcalls::stream::{self, Direction};
use sandgate_hostcalls::{Result, property};
use sandgate_policy::ingress::head::Head;
use sandgate_policy::ingress::hygiene;
use sandgate_policy::ingress::response::{ResponseDecision, evaluate};

use crate::apply;
use crate::gateway::Gateway;
use crate::live::LiveStream;
use crate::reply;

/// What `response.code_details` says of every response that came from the upstream.
const FROM_UPSTREAM: &[u8] = b"via_upstream";

impl Gateway {
    /// Handles the headers of a response. The stream is the effective context.
    pub(crate) fn respond(&mut self, id: u32) -> Action {
        let Some(live) = self.live.get(id) else { return Action::Continue };
        let outcome = match decide(live) {
            Ok(ResponseDecision::Forward(changes)) => {
                apply::change(Direction::Response, &changes).map(|()| Action::Continue)
            }
            Ok(ResponseDecision::Refuse(denial)) => {
                self.metrics.denial(denial);
                apply::record(denial.code());
                reply::deny(denial, &live.recipient, None).map(|()| Action::Pause)
            }
            Err(error) => Err(error),
        };
        outcome.unwrap_or_else(|_| self.break_off())
    }

    /// Handles trailers in either direction. The stream is the effective context.
    pub(crate) fn clean_trailers(&mut self, id: u32, direction: Direction) -> Action {
        let Some(live) = self.live.get(id) else { return Action::Continue };
        let cleaned = stream::headers(direction).and_then(|trailers| {
            let trailers = Head::new(&trailers);
            let changes = match direction {
                Direction::Request | Direction::RequestTrailers => {
                    hygiene::clean_request_trailers(trailers, &self.config, live.credential())
                }
                Direction::Response | Direction::ResponseTrailers => {
                    hygiene::clean_response_trailers(trailers)
                }
            };
            apply::change(direction, &changes)
        });
        match cleaned {
            Ok(()) => Action::Continue,
            Err(_) => self.break_off(),
        }
    }

    /// Resets a stream whose response or trailers can't be judged or cleaned.
    fn break_off(&mut self) -> Action {
        self.metrics.host_error();
        // Without a reset the stream stays paused, until the proxy's own time limit.
        let _ = stream::reset();
        Action::Pause
    }
}

fn decide(live: &LiveStream) -> Result<ResponseDecision> {
    let headers = stream::headers(Direction::Response)?;
    let response = Head::new(&headers);
    if is_failure(response) && is_local_reply()? {
        return Ok(ResponseDecision::Forward(live.recipient.complete_local_reply()));
    }
    Ok(evaluate(response, live.request.response_context()))
}

/// Whether Envoy may have generated a response: its local replies are failures, or carry a gRPC status.
fn is_failure(response: Head<'_>) -> bool {
    let status = response.first(":status").unwrap_or_default();
    matches!(status.first(), Some(b'4' | b'5')) || response.first("grpc-status").is_some()
}

/// Whether the response is a local reply of Envoy. Without details, the sandbox sent it.
fn is_local_reply() -> Result<bool> {
    let details = property(&["response", "code_details"])?;
    Ok(details.is_some_and(|details| !details.is_empty() && details != FROM_UPSTREAM))
}
