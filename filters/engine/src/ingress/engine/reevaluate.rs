//! Re-evaluates live streams after a change of what their permits depend on.

use sandgate_policy::ingress::concurrency::InFlight;
use sandgate_policy::ingress::config::IngressConfig;
use sandgate_policy::ingress::{RequestFacts, StreamDecision, reevaluate};

use crate::ingress::clock::Now;
use crate::ingress::effect::{Effect, StreamId};
use crate::ingress::live::LiveStream;
use crate::ingress::resolver::{Requester, RequesterKind, Resolver, StreamLookups};

use super::Engine;

impl Engine {
    /// Re-evaluates a live stream, and closes it if it is no longer permitted.
    pub(super) fn reevaluate(&mut self, stream: StreamId, now: Now) {
        let Some(live) = self.live.get(stream) else { return self.live.unmark(stream) };
        if self.live.close_reason(stream).is_some() {
            return self.live.unmark(stream);
        }
        let marked_at = self.live.marked_at(stream).unwrap_or(now.ms);
        match decide_again(&mut self.resolver, &self.config, stream, live, marked_at, now) {
            StreamDecision::Continue(permit) => {
                if self.live.set_permit(stream, permit, now.ms) {
                    self.effects.push_back(Effect::ReadClient(stream));
                }
                self.live.unmark(stream);
            }
            // The mark remains until the lookup has a result.
            StreamDecision::Undecided => {}
            StreamDecision::Close(reason) => {
                self.live.begin_close(stream, reason.code());
                self.effects.push_back(Effect::Close { stream, reason: reason.code() });
            }
        }
    }

    /// The host could not execute [`Effect::Close`]. The next tick tries again, until the host reports the end of the
    /// stream.
    pub fn on_close_failed(&mut self, stream: StreamId) {
        if self.live.close_reason(stream).is_some() {
            self.to_close.push(stream);
        }
    }
}

fn decide_again(
    resolver: &mut Resolver,
    config: &IngressConfig,
    stream: StreamId,
    live: &LiveStream,
    marked_at: u64,
    now: Now,
) -> StreamDecision {
    let mut requester = Requester {
        stream,
        kind: RequesterKind::LiveStream,
        // Not `now`: a negative result that arrives after its lifetime would not be fresh then, and would never close
        // the stream.
        arrived_at: marked_at,
        may_look_up: true,
        lookups: &mut StreamLookups::default(),
    };
    match &resolver.resolve(&live.request, &mut requester, now) {
        (Some(sandbox), Some(caller)) => {
            let in_flight = InFlight::default();
            let facts = RequestFacts { sandbox, caller, now: now.unix_seconds, in_flight };
            reevaluate(&live.request, &live.permit, &facts, config)
        }
        _ => StreamDecision::Undecided,
    }
}
