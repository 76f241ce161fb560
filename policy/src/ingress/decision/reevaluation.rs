//! Evaluates a live stream again when the facts behind its permit may have changed.

use crate::ingress::config::IngressConfig;
use crate::ingress::denial::Denial;

use crate::ingress::lookup::Resolved;
use crate::ingress::request::SandboxRequest;

use super::{Decision, Permit, Purpose, RequestFacts, evaluate};

/// The result of [`reevaluate`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum StreamDecision {
    /// The stream continues under this permit, which replaces the previous one. The caller of the new permit may
    /// be another one than before, or none.
    Continue(Permit),
    /// The stream must be closed.
    Close(CloseReason),
    /// There is no result of a lookup yet. The stream continues, and is evaluated again when there is one.
    Undecided,
}

/// Why a live stream must be closed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CloseReason {
    /// The sandbox has another address, or another address generation.
    Moved,
    /// The sandbox is suspended.
    NotRunning,
    /// The request would be denied now, or the gateway would answer it instead of the app.
    NotPermitted,
}

impl CloseReason {
    /// The code in access logs.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Moved => "closed.MOVED",
            Self::NotRunning => "closed.SANDBOX_NOT_RUNNING",
            Self::NotPermitted => "closed.NOT_PERMITTED",
        }
    }
}

/// Evaluates a stream that was forwarded under `permit`, by the same rules as a new request.
///
/// Two rules differ. During a snapshot, a sandbox accepts no new requests but keeps running at its address, so its
/// streams continue. And a live stream already has a slot, so the concurrency limit does not apply.
#[must_use]
pub fn reevaluate(
    request: &SandboxRequest,
    permit: &Permit,
    facts: &RequestFacts<'_>,
    config: &IngressConfig,
) -> StreamDecision {
    match evaluate(request, facts, config, Purpose::LiveStream) {
        Ok(Decision::Permit(new)) if new.is_same_route(permit) => StreamDecision::Continue(new),
        Ok(Decision::Permit(_)) => StreamDecision::Close(CloseReason::Moved),
        Ok(Decision::Resume(_)) => StreamDecision::Close(CloseReason::NotRunning),
        // The app answered the preflight while the port was public. Now the gateway must answer it.
        Ok(Decision::AnswerPreflight { .. } | Decision::Evict(_) | Decision::Deny(_)) => {
            StreamDecision::Close(CloseReason::NotPermitted)
        }
        Err(denial) => on_denial(denial, permit, facts),
    }
}

fn on_denial(denial: Denial, permit: &Permit, facts: &RequestFacts<'_>) -> StreamDecision {
    let is_lookup_missing = match denial {
        Denial::SandboxUpstreamError => *facts.sandbox == Resolved::Unavailable,
        Denial::AuthServiceUnavailable => *facts.caller == Resolved::Unavailable,
        _ => false,
    };
    // The permit has the time of expiry, so no lookup is needed to know that the credential has expired.
    let has_expired = permit.caller().is_some_and(|caller| caller.is_expired(facts.now));
    if is_lookup_missing && !has_expired {
        StreamDecision::Undecided
    } else {
        StreamDecision::Close(CloseReason::NotPermitted)
    }
}
