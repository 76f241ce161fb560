//! Resumes the sandboxes that waiting requests need.

use sandgate_policy::ingress::denial::Denial;
use sandgate_policy::ingress::{Decision, ResumePermit};

use crate::ingress::clock::Now;
use crate::ingress::effect::StreamId;
use crate::ingress::lookups::LookupKey;
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
        let sandbox_id = permit.sandbox_id().to_string();
        let mut key = LookupKey::Resume { sandbox_id: sandbox_id.clone(), public: false };
        // A request to a public port joins the resume of an authorized one.
        if permit.is_public() && !self.resolver.lookups.contains(&key) {
            key = LookupKey::Resume { sandbox_id, public: true };
            if !self.resolver.lookups.contains(&key)
                && let Some(seconds) =
                    self.limit_public_resume(permit.sandbox_id().as_str(), now.ms)
            {
                return Evaluation::Decided(Decision::Deny(Denial::SandboxNotReady), Some(seconds));
            }
        }
        let (request, mut requester) = waiting.requester(stream, properties);
        match self.resolver.look_up(key, request, &mut requester, now) {
            true => Evaluation::Wait,
            false => Evaluation::deny(Denial::SandboxNotReady),
        }
    }

    /// Records a resume by a request to a public port. Returns the seconds until the next one is allowed, if it is
    /// too soon: "Resume through a public port once per sandbox in 10 s".
    fn limit_public_resume(&mut self, sandbox_id: &str, now: u64) -> Option<u32> {
        let interval = u64::from(self.config.limits().public_resume_interval_ms);
        self.public_resumes.retain(|_, at| now.saturating_sub(*at) < interval);
        if let Some(at) = self.public_resumes.get(sandbox_id) {
            let left_ms = interval.saturating_sub(now.saturating_sub(*at));
            return Some(u32::try_from(left_ms.div_ceil(1_000)).unwrap_or(u32::MAX));
        }
        self.public_resumes.insert(sandbox_id.to_owned(), now);
        None
    }
}
