//! Requests: from their headers to their decision.

use sandgate_policy::ingress::concurrency::Class;
use sandgate_policy::ingress::config::IngressConfig;
use sandgate_policy::ingress::denial::Denial;
use sandgate_policy::ingress::head::Head;
use sandgate_policy::ingress::recipient::Recipient;
use sandgate_policy::ingress::slots::ClientAddress;
use sandgate_policy::ingress::{Decision, Request, hygiene, message};

use crate::ingress::clock::Now;
use crate::ingress::effect::{DenialReply, Effect, Forward, RequestAction, StreamId};
use crate::ingress::live::LiveStream;
use crate::ingress::properties::RequestProperties;
use crate::ingress::waiting::{Phase, WaitingRequest};

use super::Engine;
use super::evaluate::Evaluation;

/// The result of [`Engine::record_decision`].
enum Recorded<'a> {
    /// The stream is live.
    Forward {
        live: &'a LiveStream,
        config: &'a IngressConfig,
    },
    AnswerPreflight {
        origin: String,
        recipient: Recipient,
    },
    Deny(DenialReply),
}

impl Engine {
    /// A request has arrived.
    pub fn on_request_headers<'a>(
        &'a mut self,
        stream: StreamId,
        head: Head<'_>,
        properties: &RequestProperties<'_>,
        now: Now,
    ) -> RequestAction<'a> {
        let recipient = Recipient::of(head, &self.config);
        if let Err(denial) = message::check(head, || properties.is_http10()) {
            return RequestAction::Deny(DenialReply::new(denial, recipient));
        }
        let request = match Request::parse(head, &self.config) {
            Ok(Request::Sandbox(request)) => request,
            Ok(Request::Api) => {
                return RequestAction::ForwardToApi(hygiene::clean_api_request(head));
            }
            Err(denial) => return RequestAction::Deny(DenialReply::new(denial, recipient)),
        };
        let now = self.begin_event(now);
        if !self.resolver.is_hub_started() {
            self.effects.push_back(Effect::Start);
        }
        let mut waiting = WaitingRequest::new(request, recipient, head, &self.config, now.ms);
        let mut has_room = self.waiting_slots.len() < self.config.limits().waiters;
        if !has_room {
            waiting.phase = Phase::NoSlot;
        }
        let mut evaluation = self.evaluate(stream, &mut waiting, properties, now);
        if matches!(waiting.phase, Phase::NoSlot)
            && evaluation.may_change_if_request_waits()
            && self.make_room_to_wait(properties, now)
        {
            has_room = true;
            waiting.phase = Phase::Resolving;
            evaluation = self.evaluate(stream, &mut waiting, properties, now);
        }
        match evaluation {
            Evaluation::Wait => {
                waiting.client = properties.client();
                if !waiting.is_resuming() {
                    self.waiting_slots.acquire(waiting.client, stream, now.ms);
                }
                self.waiting.insert(stream, waiting);
                RequestAction::Wait
            }
            // The control plane is not the reason, because no lookup was made.
            Evaluation::Decided(
                Decision::Deny(Denial::AuthServiceUnavailable | Denial::SandboxUpstreamError),
                _,
            ) if !has_room => {
                RequestAction::Deny(DenialReply::new(Denial::SandboxNotReady, waiting.recipient))
            }
            Evaluation::Decided(decision, retry_after) => {
                match self.record_decision(stream, waiting, decision, retry_after, properties, now)
                {
                    Recorded::Forward { live, config } => {
                        RequestAction::Forward(live.forward(head, config))
                    }
                    Recorded::AnswerPreflight { origin, .. } => {
                        RequestAction::AnswerPreflight { origin }
                    }
                    Recorded::Deny(reply) => RequestAction::Deny(reply),
                }
            }
        }
    }

    /// Evaluates a waiting request again.
    pub(super) fn evaluate_waiting(&mut self, stream: StreamId, now: Now) {
        let Some(mut waiting) = self.waiting.remove(&stream) else { return };
        let properties = RequestProperties::of_waiting(waiting.client);
        match self.evaluate(stream, &mut waiting, &properties, now) {
            Evaluation::Wait => {
                self.waiting.insert(stream, waiting);
            }
            Evaluation::Decided(decision, retry_after) => {
                self.remove_waiting(stream, &waiting);
                let recorded =
                    self.record_decision(stream, waiting, decision, retry_after, &properties, now);
                let effect = match recorded {
                    Recorded::Forward { .. } => Effect::Forward(stream),
                    Recorded::AnswerPreflight { origin, recipient } => {
                        Effect::AnswerPreflight { stream, origin, recipient }
                    }
                    Recorded::Deny(reply) => Effect::Deny(stream, reply),
                };
                self.effects.push_back(effect);
            }
        }
    }

    /// Records a decision in the state of the engine.
    fn record_decision(
        &mut self,
        stream: StreamId,
        waiting: WaitingRequest,
        decision: Decision,
        retry_after: Option<u32>,
        properties: &RequestProperties<'_>,
        now: Now,
    ) -> Recorded<'_> {
        let WaitingRequest { request, recipient, .. } = waiting;
        let denial = match decision {
            Decision::Permit(permit) => {
                let client = match permit.class() {
                    Class::Anonymous => properties.client(),
                    Class::Management | Class::Authenticated => ClientAddress::Unknown,
                };
                let live = Box::new(LiveStream::new(request, permit, recipient, client));
                let live = self.live.insert(stream, live, now.ms);
                return Recorded::Forward { live, config: &self.config };
            }
            Decision::AnswerPreflight { origin } => {
                return Recorded::AnswerPreflight { origin, recipient };
            }
            Decision::Deny(denial) => denial,
            // Impossible: `evaluate` turns a resume into a wait or a denial, and an eviction into a permit or a denial.
            Decision::Resume(_) => Denial::SandboxNotReady,
            Decision::Evict(_) => Denial::TooManyRequests,
        };
        Recorded::Deny(DenialReply { denial, recipient, retry_after })
    }

    /// Returns the upstream and the header changes of a request that [`Effect::Forward`] continues. `None` if the
    /// request has ended.
    #[must_use]
    pub fn forward(&self, stream: StreamId, head: Head<'_>) -> Option<Forward<'_>> {
        Some(self.live.get(stream)?.forward(head, &self.config))
    }

    /// The host could not forward a request. Returns its denial, unless it has ended.
    pub fn on_forward_failed(&mut self, stream: StreamId) -> Option<DenialReply> {
        let live = self.live.remove(stream)?;
        Some(DenialReply::new(Denial::SandboxUpstreamError, live.recipient))
    }
}
