//! The resumes of sandboxes, of which all workers share one.

use sandgate_policy::ingress::ResumePermit;
use sandgate_policy::ingress::config::IngressConfig;
use sandgate_policy::ingress::slots::ClientAddress;

use crate::ingress::lookups::{LookupKey, LookupReason, Waiter};

use super::State;

/// Whether a stream waits for a resume.
pub(crate) enum ResumeLookup {
    Joined(LookupKey),
    /// A request to a public port resumed the sandbox a short time ago. Holds the seconds until the next may.
    TooSoon(u32),
    /// No lookup can start now.
    Refused,
}

impl State {
    /// Lets a stream wait for the resume of a sandbox, and starts it if it is not in flight.
    pub(crate) fn join_resume(
        &mut self,
        permit: &ResumePermit,
        waiter: Waiter,
        client: ClientAddress,
        config: &IngressConfig,
        now: u64,
    ) -> ResumeLookup {
        let sandbox_id = permit.sandbox_id().to_string();
        let mut key = LookupKey::Resume { sandbox_id: sandbox_id.clone(), public: false };
        // A request to a public port joins the resume of an authorized one.
        if permit.is_public() && !self.lookups.contains(&key) {
            key = LookupKey::Resume { sandbox_id, public: true };
            if !self.lookups.contains(&key)
                && let Some(seconds) =
                    self.limit_public_resume(permit.sandbox_id().as_str(), config, now)
            {
                return ResumeLookup::TooSoon(seconds);
            }
        }
        let reason = LookupReason::Resume(permit.project_id().clone(), client);
        match self.lookups.join(&key, None, waiter, reason, now) {
            true => ResumeLookup::Joined(key),
            false => ResumeLookup::Refused,
        }
    }

    /// Records a resume by a request to a public port. Returns the seconds until the next one is allowed, if it is
    /// too soon: "Resume through a public port once per sandbox in 10 s".
    fn limit_public_resume(
        &mut self,
        sandbox_id: &str,
        config: &IngressConfig,
        now: u64,
    ) -> Option<u32> {
        let interval = u64::from(config.limits().public_resume_interval_ms);
        self.public_resumes.retain(|_, at| now.saturating_sub(*at) < interval);
        if let Some(at) = self.public_resumes.get(sandbox_id) {
            let left_ms = interval.saturating_sub(now.saturating_sub(*at));
            return Some(u32::try_from(left_ms.div_ceil(1_000)).unwrap_or(u32::MAX));
        }
        self.public_resumes.insert(sandbox_id.to_owned(), now);
        None
    }
}
