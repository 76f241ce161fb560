//! Judges a stream that was forwarded, when the facts behind its permit may have changed.

use crate::ingress::config::IngressConfig;
use crate::ingress::denial::Denial;

use crate::ingress::lookup::Lookup;
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
    /// The control plane is unavailable. The stream continues, and is evaluated again when an answer is available.
    Undecided,
}

/// Why a live stream must be closed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CloseReason {
    /// The sandbox has another address now, or another generation of it.
    Moved,
    /// The sandbox is suspended.
    NotRunning,
    /// The request would be refused now, or answered by the gateway instead of the app.
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

/// Judges a stream that was forwarded by `permit`, by the same rules as a new request.
///
/// Two rules differ. A sandbox accepts no new requests during a snapshot, but keeps running at its address, so its
/// streams go on. And a stream that is already forwarded needs no further slot.
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
        // The app answered the preflight while the port was public. Now the gateway has to answer it.
        Ok(Decision::AnswerPreflight { .. } | Decision::Evict(_) | Decision::Deny(_)) => {
            StreamDecision::Close(CloseReason::NotPermitted)
        }
        Err(denial) => refused(denial, permit, facts),
    }
}

fn refused(denial: Denial, permit: &Permit, facts: &RequestFacts<'_>) -> StreamDecision {
    let cannot_ask = match denial {
        Denial::SandboxUpstreamError => *facts.sandbox == Lookup::Unavailable,
        Denial::AuthServiceUnavailable => *facts.caller == Lookup::Unavailable,
        _ => false,
    };
    // The expiry is known without an answer of the control plane.
    let has_expired = permit.caller().is_some_and(|caller| caller.is_expired(facts.now));
    if cannot_ask && !has_expired {
        StreamDecision::Undecided
    } else {
        StreamDecision::Close(CloseReason::NotPermitted)
    }
}
