//! Resumes the sandboxes that waiting requests need.

use sandgate_policy::ingress::denial::Denial;
use sandgate_policy::ingress::{Decision, ResumePermit};

use crate::ingress::clock::Now;
use crate::ingress::effect::StreamId;
use crate::ingress::hub::ResumeLookup;
use crate::ingress::properties::RequestProperties;
use crate::ingress::waiting::{Phase, WaitingRequest};

use super::Engine;
use super::evaluate::Evaluation;

impl Engine {
    /// Lets a request wait for the resume of its sandbox. All requests that wait for it share one call.
    pub(super) fn resume(
        &mut self,
        stream: StreamId,
        waiting: &mut WaitingRequest,
        permit: &ResumePermit,
        properties: &RequestProperties<'_>,
        now: Now,
    ) -> Evaluation {
        let evaluation = self.try_resume(stream, waiting, permit, properties, now);
        if matches!(evaluation, Evaluation::Decided(..)) {
            self.resume_slots.release(stream);
        }
        evaluation
    }

    fn try_resume(
        &mut self,
        stream: StreamId,
        waiting: &mut WaitingRequest,
        permit: &ResumePermit,
        properties: &RequestProperties<'_>,
        now: Now,
    ) -> Evaluation {
        match &mut waiting.phase {
            Phase::CacheOnly | Phase::Denied { .. } => {
                return Evaluation::deny(Denial::SandboxNotReady);
            }
            Phase::Resuming { permit: old, is_crowded, .. } => {
                *is_crowded = false;
                self.crowded.remove(stream);
                if old != permit {
                    *old = permit.clone();
                    self.resume_slots.acquire(stream, permit, properties.client(), now.ms);
                }
            }
            Phase::Resolving | Phase::Rechecking | Phase::NoSlot => {
                if !self.make_room_to_resume(permit, properties, now) {
                    waiting.deny(Denial::SandboxNotReady, None);
                    return Evaluation::deny(Denial::SandboxNotReady);
                }
                let client = properties.client();
                self.waiting_slots.release(client, stream);
                self.resume_slots.acquire(stream, permit, client, now.ms);
                // An anonymous client can't extend its wait beyond the default.
                let default_ms = self.config.limits().resume_wait_ms.into();
                let limit_ms = permit.is_public().then_some(default_ms);
                waiting.begin_resume(permit.clone(), limit_ms, now.ms);
            }
        }
        if waiting.is_past_deadline(now.ms) {
            return Evaluation::deny(Denial::SandboxNotReady);
        }
        if waiting.must_pause(now.ms) {
            return Evaluation::Wait;
        }
        let (_, mut requester) = waiting.requester(stream, properties, now.ms);
        match self.resolver.join_resume(permit, &mut requester, now) {
            ResumeLookup::Joined(_) => Evaluation::Wait,
            ResumeLookup::Refused => Evaluation::deny(Denial::SandboxNotReady),
            ResumeLookup::TooSoon(seconds) => {
                Evaluation::Decided(Decision::Deny(Denial::SandboxNotReady), Some(seconds))
            }
        }
    }
}
