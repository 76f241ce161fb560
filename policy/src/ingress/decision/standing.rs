//! Judges a stream that was forwarded, when the facts behind its permit may have changed.

use crate::ingress::config::IngressConfig;
use crate::ingress::denial::Denial;

use crate::ingress::lookup::Known;
use crate::ingress::request::SandboxRequest;

use super::{Decision, Facts, Permit, Purpose, judge};

/// Where a live stream stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Standing {
    /// The stream goes on. It depends on this permit from now on, which may have another caller than the one before,
    /// or none.
    Permitted(Permit),
    /// It must be closed.
    Ended(Ended),
    /// The control plane can't be asked. The stream goes on, and is judged again when an answer is available.
    Unknown,
}

/// Why a live stream must be closed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ended {
    /// The sandbox has another address now, or another generation of it.
    Moved,
    /// The sandbox is suspended.
    NotRunning,
    /// The request would be refused now, or answered by the gateway instead of the app.
    NotPermitted,
}

impl Ended {
    /// What access logs say.
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
/// streams go on. And a stream that is already forwarded needs no further place.
#[must_use]
pub fn decide_again(
    request: &SandboxRequest,
    permit: &Permit,
    facts: &Facts<'_>,
    config: &IngressConfig,
) -> Standing {
    match judge(request, facts, config, Purpose::GoOn) {
        Ok(Decision::Permit(new)) if new.is_same_route(permit) => Standing::Permitted(new),
        Ok(Decision::Permit(_)) => Standing::Ended(Ended::Moved),
        Ok(Decision::Resume(_)) => Standing::Ended(Ended::NotRunning),
        // The app answered the preflight while the port was public. Now the gateway has to answer it.
        Ok(Decision::AnswerPreflight { .. } | Decision::MakeRoom(_) | Decision::Deny(_)) => {
            Standing::Ended(Ended::NotPermitted)
        }
        Err(denial) => refused(denial, permit, facts),
    }
}

fn refused(denial: Denial, permit: &Permit, facts: &Facts<'_>) -> Standing {
    let cannot_ask = match denial {
        Denial::SandboxUpstreamError => *facts.sandbox == Known::CannotAsk,
        Denial::AuthServiceUnavailable => *facts.caller == Known::CannotAsk,
        _ => false,
    };
    // The expiry is known without an answer of the control plane.
    let has_expired = permit.caller().is_some_and(|caller| caller.is_expired(facts.now));
    if cannot_ask && !has_expired {
        Standing::Unknown
    } else {
        Standing::Ended(Ended::NotPermitted)
    }
}
