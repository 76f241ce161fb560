//! Evaluates a request that is not decided.

use std::sync::Arc;

use sandgate_policy::ingress::concurrency::InFlight;
use sandgate_policy::ingress::denial::Denial;
use sandgate_policy::ingress::{Decision, KnownSandbox, RequestFacts, Resolved, decide};

use crate::ingress::clock::Now;
use crate::ingress::effect::{Effect, StreamId};
use crate::ingress::properties::RequestProperties;
use crate::ingress::waiting::{Phase, WaitingRequest};

use super::Engine;

/// The result of an evaluation.
pub(super) enum Evaluation {
    /// Decided. Holds the seconds for `Retry-After`, if they differ from the denial's own.
    Decided(Decision, Option<u32>),
    /// The result of a lookup is missing.
    Wait,
}

impl Evaluation {
    pub(super) fn deny(denial: Denial) -> Self {
        Self::Decided(Decision::Deny(denial), None)
    }

    /// Whether the decision may change if the request can wait for lookups or a resume.
    pub(super) fn may_change_if_request_waits(&self) -> bool {
        matches!(
            self,
            Self::Decided(
                Decision::Deny(
                    Denial::AuthServiceUnavailable
                        | Denial::SandboxUpstreamError
                        | Denial::SandboxNotReady
                ),
                _
            )
        )
    }
}

impl Engine {
    /// Decides about a request, or starts the lookups that the decision needs.
    pub(super) fn evaluate(
        &mut self,
        stream: StreamId,
        waiting: &mut WaitingRequest,
        properties: &RequestProperties<'_>,
        now: Now,
    ) -> Evaluation {
        if let Phase::Denied { denial, retry_after, resuming } = &waiting.phase {
            if let Some(permit) = resuming {
                let port = waiting.request.port().get();
                let (project, sandbox) = (permit.project_id(), permit.sandbox_id());
                self.resolver.count_denial(project, sandbox, port, *denial);
            }
            return Evaluation::Decided(Decision::Deny(*denial), *retry_after);
        }
        let (request, mut requester) = waiting.requester(stream, properties, now.ms);
        let (Some(sandbox), Some(caller)) = self.resolver.resolve(request, &mut requester, now)
        else {
            return Evaluation::Wait;
        };
        let in_flight = match &sandbox {
            Resolved::Found(sandbox) => self.live.in_flight(&sandbox.id),
            Resolved::NotFound | Resolved::Unavailable => InFlight::default(),
        };
        let facts =
            RequestFacts { sandbox: &sandbox, caller: &caller, now: now.unix_seconds, in_flight };
        let decision = decide(request, &facts, &self.config);
        if waiting.is_resuming()
            && let Some(pause_ms) = self.pause_for_slot(&decision, properties, now)
            && let Some(permit) = waiting.wait_for_slot(pause_ms, now.ms)
        {
            self.crowded.insert(permit.sandbox_id(), stream, now.ms);
            return Evaluation::Wait;
        }
        match (decision, &waiting.phase) {
            (Decision::Deny(denial @ Denial::TooManyRequests), _) => {
                self.deny(&sandbox, waiting, denial)
            }
            // Before a denial that depends on a cache entry, the lookup is repeated once. After a resume this is not
            // necessary, because the entry is new.
            (Decision::Deny(denial), Phase::Resolving) => {
                waiting.phase = Phase::Rechecking;
                let (request, mut requester) = waiting.requester(stream, properties, now.ms);
                if !self.resolver.recheck(request, &sandbox, &mut requester, now) {
                    return self.deny(&sandbox, waiting, denial);
                }
                self.effects.push_back(Effect::RecheckStarted);
                Evaluation::Wait
            }
            // The resume has started the sandbox, and it is not running yet.
            (Decision::Deny(Denial::SandboxNotReady), Phase::Resuming { permit, .. }) => {
                let permit = permit.clone();
                self.resume(stream, waiting, &permit, properties, now)
            }
            (Decision::Resume(permit), _) => self.resume(stream, waiting, &permit, properties, now),
            (Decision::Evict(permit), _) => match self.make_room(permit, properties, now) {
                Some(permit) => Evaluation::Decided(Decision::Permit(permit), None),
                None => self.deny(&sandbox, waiting, Denial::TooManyRequests),
            },
            (Decision::Deny(denial), _) => self.deny(&sandbox, waiting, denial),
            (decision, _) => Evaluation::Decided(decision, None),
        }
    }

    /// Denies a request, and counts that for the owner of the sandbox if the sandbox exists.
    fn deny(
        &mut self,
        sandbox: &Resolved<Arc<KnownSandbox>>,
        waiting: &WaitingRequest,
        denial: Denial,
    ) -> Evaluation {
        if let Resolved::Found(sandbox) = sandbox {
            let port = waiting.request.port().get();
            self.resolver.count_denial(&sandbox.project_id, &sandbox.id, port, denial);
        }
        Evaluation::deny(denial)
    }
}
