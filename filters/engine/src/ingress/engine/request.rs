//! Requests: from their headers to their decision.

use sandgate_policy::ingress::concurrency::Class;
use sandgate_policy::ingress::denial::Denial;
use sandgate_policy::ingress::head::Head;
use sandgate_policy::ingress::recipient::Recipient;
use sandgate_policy::ingress::slots::Client;
use sandgate_policy::ingress::{Decision, Request, hygiene, websocket};

use crate::ingress::client::LazyClient;
use crate::ingress::clock::Now;
use crate::ingress::effect::{Effect, Forward, Reply, RequestAction, StreamId};
use crate::ingress::live::LiveStream;
use crate::ingress::waiting::{Phase, WaitingRequest};

use super::Engine;
use super::evaluate::Evaluation;

/// The result of [`Engine::settle`].
enum Decided {
    /// The stream is live.
    Forward,
    AnswerPreflight {
        origin: String,
        recipient: Recipient,
    },
    Deny(Reply),
}

impl Engine {
    /// A request has arrived.
    pub fn on_request_headers<'a>(
        &'a mut self,
        stream: StreamId,
        head: Head<'_>,
        client: &LazyClient<'_>,
        now: Now,
    ) -> RequestAction<'a> {
        let recipient = Recipient::of(head, &self.config);
        let request = match Request::parse(head, &self.config) {
            Ok(Request::Sandbox(request)) => *request,
            Ok(Request::Api) => {
                return RequestAction::ForwardToApi(hygiene::clean_api_request(head));
            }
            Err(denial) => return RequestAction::Deny(Reply::new(denial, recipient)),
        };
        if self.resolver.feed.is_none() {
            self.effects.push_back(Effect::Start);
        }
        let mut waiting = WaitingRequest::new(request, recipient, head, &self.config, now.ms);
        let mut has_room = self.waiting_slots.len() < self.config.limits().waiters;
        if !has_room {
            waiting.phase = Phase::CacheOnly;
        }
        let mut evaluation = self.evaluate(stream, &mut waiting, client, now);
        if !has_room && evaluation.is_for_lack_of_lookups() && self.make_room_to_wait(client, now) {
            has_room = true;
            waiting.phase = Phase::Resolving;
            evaluation = self.evaluate(stream, &mut waiting, client, now);
        }
        match evaluation {
            Evaluation::Wait => {
                waiting.client = client.get();
                self.waiting_slots.acquire(waiting.client, stream, now.ms);
                self.waiting.insert(stream, waiting);
                self.wake();
                RequestAction::Wait
            }
            // The control plane is not the reason, because no lookup was made.
            Evaluation::Decided(
                Decision::Deny(Denial::AuthServiceUnavailable | Denial::SandboxUpstreamError),
                _,
            ) if !has_room => {
                RequestAction::Deny(Reply::new(Denial::SandboxNotReady, waiting.recipient))
            }
            Evaluation::Decided(decision, retry_after) => {
                match self.settle(stream, waiting, decision, retry_after, client, now) {
                    Decided::Forward => match self.forward(stream, head) {
                        Some(forward) => RequestAction::Forward(forward),
                        // Impossible: `settle` has just inserted the stream.
                        None => {
                            let recipient = Recipient::of(head, &self.config);
                            RequestAction::Deny(Reply::new(Denial::SandboxUpstreamError, recipient))
                        }
                    },
                    Decided::AnswerPreflight { origin, .. } => {
                        RequestAction::AnswerPreflight { origin }
                    }
                    Decided::Deny(reply) => RequestAction::Deny(reply),
                }
            }
        }
    }

    /// Evaluates a waiting request again.
    pub(super) fn evaluate_waiting(&mut self, stream: StreamId, now: Now) {
        let Some(mut waiting) = self.waiting.remove(&stream) else { return };
        let client = LazyClient::known(waiting.client);
        match self.evaluate(stream, &mut waiting, &client, now) {
            Evaluation::Wait => {
                self.waiting.insert(stream, waiting);
            }
            Evaluation::Decided(decision, retry_after) => {
                self.remove_waiting(stream, &waiting);
                let decided = self.settle(stream, waiting, decision, retry_after, &client, now);
                self.effects.push_back(match decided {
                    Decided::Forward => Effect::Forward(stream),
                    Decided::AnswerPreflight { origin, recipient } => {
                        Effect::AnswerPreflight { stream, origin, recipient }
                    }
                    Decided::Deny(reply) => Effect::Deny(stream, reply),
                });
            }
        }
    }

    /// Updates the state for a decision.
    fn settle(
        &mut self,
        stream: StreamId,
        waiting: WaitingRequest,
        decision: Decision,
        retry_after: Option<u32>,
        client: &LazyClient<'_>,
        now: Now,
    ) -> Decided {
        let WaitingRequest { request, recipient, .. } = waiting;
        let denial = match self.make_room(decision, client, now) {
            Decision::Permit(permit) => {
                let client = match permit.class() {
                    Class::Anonymous => client.get(),
                    Class::Management | Class::Authenticated => Client::Unknown,
                };
                let live = LiveStream::new(request, permit, recipient, client);
                self.live.insert(stream, live, now.ms);
                return Decided::Forward;
            }
            Decision::AnswerPreflight { origin } => {
                return Decided::AnswerPreflight { origin, recipient };
            }
            Decision::Deny(denial) => denial,
            // These two are impossible: `evaluate` turns a resume into a wait or a denial, and `make_room` turns an
            // eviction into a permit or a denial.
            Decision::Resume(_) => Denial::SandboxNotReady,
            Decision::Evict(_) => Denial::TooManyRequests,
        };
        Decided::Deny(Reply { denial, recipient, retry_after })
    }

    /// Returns the upstream and the header changes of a request that [`Effect::Forward`] resumes. `None` if the
    /// request has ended.
    #[must_use]
    pub fn forward(&self, stream: StreamId, head: Head<'_>) -> Option<Forward<'_>> {
        let live = self.live.get(stream)?;
        let caller = live.permit.caller();
        let mut changes = hygiene::clean_request(head, &self.config, live.credential(), caller);
        changes.extend(websocket::complete_request(head));
        Some(Forward { permit: &live.permit, changes })
    }

    /// The host could not forward a request. Returns its denial, unless it has ended.
    pub fn on_forward_failed(&mut self, stream: StreamId) -> Option<Reply> {
        let live = self.live.remove(stream)?;
        Some(Reply::new(Denial::SandboxUpstreamError, live.recipient))
    }
}
