//! Resumes the sandboxes that waiting requests need.

use sandgate_policy::ingress::denial::Denial;
use sandgate_policy::ingress::{Decision, ResumePermit};

use crate::clock::Now;
use crate::gateway::Gateway;
use crate::lookups::Key;
use crate::waiting::{Verdict, Waiting};

impl Gateway {
    /// Lets a request wait for the resume of its sandbox. All requests that wait for it share one call.
    pub(crate) fn resume(
        &mut self,
        id: u32,
        waiting: &mut Waiting,
        permit: &ResumePermit,
        now: Now,
    ) -> Verdict {
        if waiting.resume.is_none() {
            // Sandboxes of one project that resume slowly must not take all places to wait.
            let room = self.config.limits().resume_waiters_per_project;
            // A fifth is kept from the project's public ports, for its own callers.
            let room = if permit.is_public() { room.saturating_sub(room / 5) } else { room };
            if self.resuming(permit.project_id()) >= room {
                return Verdict::deny(Denial::SandboxNotReady);
            }
            // An anonymous client can't extend its wait beyond the default.
            let patience = match permit.is_public() {
                true => waiting.patience.min(self.config.limits().resume_wait_ms.into()),
                false => waiting.patience,
            };
            waiting.deadline = now.ms.saturating_add(patience);
        }
        waiting.resume = Some(permit.clone());
        if waiting.gave_up || now.ms >= waiting.deadline {
            return Verdict::deny(Denial::SandboxNotReady);
        }
        if now.ms < waiting.resume_after {
            return Verdict::Wait;
        }
        let sandbox_id = permit.sandbox_id().to_owned();
        let by_caller = Key::Resume { sandbox_id: sandbox_id.clone(), public: false };
        let key = match permit.is_public() && !self.lookups.is_under_way(&by_caller) {
            true => Key::Resume { sandbox_id, public: true },
            false => by_caller,
        };
        if matches!(key, Key::Resume { public: true, .. })
            && !self.lookups.is_under_way(&key)
            && let Some(seconds) = self.limit_public_resume(permit.sandbox_id(), now.ms)
        {
            return Verdict::Decided(Decision::Deny(Denial::SandboxNotReady), Some(seconds));
        }
        let (request, mut asks) = waiting.asks(id, true);
        match self.ask(key, request, &mut asks, now) {
            true => Verdict::Wait,
            false => Verdict::deny(Denial::SandboxNotReady),
        }
    }

    /// "Resume through a public port once per sandbox in 10 s": seconds to wait, if too soon.
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
