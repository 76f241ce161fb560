//! A request that waits for its decision.

use std::collections::BTreeSet;

use sandgate_policy::ingress::ResumePermit;
use sandgate_policy::ingress::SandboxRequest;
use sandgate_policy::ingress::config::IngressConfig;
use sandgate_policy::ingress::denial::Denial;
use sandgate_policy::ingress::head::Head;
use sandgate_policy::ingress::recipient::Recipient;
use sandgate_policy::ingress::slots::ClientAddress;

use crate::ingress::effect::StreamId;
use crate::ingress::lookups::{LookupKey, LookupResult};
use crate::ingress::properties::RequestProperties;
use crate::ingress::resolver::{Requester, RequesterKind, StreamLookups};

/// The header that says how long the client waits for a response, in milliseconds.
const CLIENT_TIMEOUT_HEADER: &str = "x-tensorlake-request-timeout-ms";
/// The part of the client's timeout that remains for the response itself, in milliseconds.
const CLIENT_MARGIN_MS: u64 = 500;
/// The longest wait for a resume that a client can ask for, in milliseconds.
const RESUME_WAIT_MAX_MS: u64 = 300_000;
/// Added to the time limits of all lookups of a request, in milliseconds. If a request still waits after
/// that, the host has lost a response.
const LOST_RESPONSE_MS: u64 = 5_000;
/// The pause before the next lookup of a sandbox that is still not running after a resume, in milliseconds.
const RESUME_PAUSE_MS: u64 = 250;

/// The state of a request that is not decided.
pub(crate) enum Phase {
    /// Waits for the sandbox, the caller, or both.
    Resolving,
    /// Waits for the lookups behind a denial, which are repeated once.
    Rechecking,
    /// Waits for the sandbox to run.
    Resuming {
        permit: ResumePermit,
        /// Nothing is done before this time, in milliseconds.
        not_before: u64,
        /// Whether the sandbox runs, and all of its slots are taken.
        is_crowded: bool,
    },
    /// All slots for requests that wait for lookups are taken. Only cached entries are used, including stale ones.
    NoSlot,
    /// A lookup failed. Only cached entries are used, including stale ones.
    CacheOnly,
    /// Denied, whatever lookups return.
    Denied {
        denial: Denial,
        retry_after: Option<u32>,
        /// For the sandbox that the request waited for, if it waited for a resume.
        resuming: Option<ResumePermit>,
    },
}

/// A request that is not decided. No `Debug`: it may hold a secret.
pub(crate) struct WaitingRequest {
    /// Set when the request begins to wait.
    pub(crate) client: ClientAddress,
    pub(crate) request: Box<SandboxRequest>,
    pub(crate) recipient: Recipient,
    pub(crate) phase: Phase,
    /// The results of lookups that were sent at this time or later are used, however old they are. It is the time at which the
    /// request arrived, or of its first evaluation after a wait for the sandbox: such a wait is long, and what was known
    /// before may have changed. `None` from the end of the wait to that evaluation.
    judged_since: Option<u64>,
    /// At this time the request is denied.
    deadline: u64,
    /// How long the request may wait for a resume.
    resume_wait_ms: u64,
    lookups: StreamLookups,
}

impl WaitingRequest {
    pub(crate) fn new(
        request: Box<SandboxRequest>,
        recipient: Recipient,
        head: Head<'_>,
        config: &IngressConfig,
        now: u64,
    ) -> Self {
        let timeout_ms = u64::from(config.control_plane().timeout_ms);
        Self {
            client: ClientAddress::Unknown,
            request,
            recipient,
            phase: Phase::Resolving,
            judged_since: Some(now),
            deadline: now
                .saturating_add(timeout_ms.saturating_mul(3))
                .saturating_add(LOST_RESPONSE_MS),
            resume_wait_ms: client_timeout_ms(head)
                .unwrap_or_else(|| config.limits().resume_wait_ms.into()),
            lookups: StreamLookups::default(),
        }
    }

    /// The lookups that the request waits for.
    pub(crate) fn pending_lookups(&self) -> &[LookupKey] {
        self.lookups.pending()
    }

    /// The lookups that the request waits for are lost. It must be evaluated now.
    pub(crate) fn forget_lookups(&mut self) {
        self.lookups.forget();
    }

    /// Borrows the request, and separately the part that lookups change.
    pub(crate) fn requester<'a>(
        &'a mut self,
        stream: StreamId,
        properties: &'a RequestProperties<'a>,
        now: u64,
    ) -> (&'a SandboxRequest, Requester<'a>) {
        let requester = Requester {
            stream,
            kind: RequesterKind::Request(properties),
            arrived_at: *self.judged_since.get_or_insert(now),
            may_look_up: !matches!(self.phase, Phase::NoSlot | Phase::CacheOnly),
            lookups: &mut self.lookups,
        };
        (&self.request, requester)
    }

    pub(crate) fn is_resuming(&self) -> bool {
        matches!(self.phase, Phase::Resuming { .. })
    }

    /// Begins to wait for a resume, for `wait_ms` at most, or for as long as the client asks if that is shorter.
    pub(crate) fn begin_resume(&mut self, permit: ResumePermit, wait_ms: Option<u64>, now: u64) {
        let own = self.resume_wait_ms;
        self.deadline = now.saturating_add(wait_ms.map_or(own, |limit| own.min(limit)));
        self.phase = Phase::Resuming { permit, not_before: 0, is_crowded: false };
    }

    pub(crate) fn is_past_deadline(&self, now: u64) -> bool {
        now >= self.deadline
    }

    /// Whether the request waits for the pause after a resume to end.
    pub(crate) fn must_pause(&self, now: u64) -> bool {
        matches!(self.phase, Phase::Resuming { not_before, .. } if now < not_before)
    }

    /// Ends the pause after a resume if the sandbox is one of those that have changed. Returns whether the request must
    /// be evaluated now.
    pub(crate) fn on_changes(&mut self, changed: &BTreeSet<&str>) -> bool {
        match &self.phase {
            Phase::Resuming { permit, .. } if changed.contains(permit.sandbox_id().as_str()) => {
                self.end_pause()
            }
            _ => false,
        }
    }

    /// Ends the pause of a request that waits for its sandbox and for no lookup. Returns whether it is such a request, which
    /// must be evaluated now.
    fn end_pause(&mut self) -> bool {
        match &mut self.phase {
            Phase::Resuming { not_before, .. } if self.lookups.pending().is_empty() => {
                *not_before = 0;
                self.judged_since = None;
                true
            }
            _ => false,
        }
    }

    /// All slots of the sandbox are taken. A request that has waited for a resume waits for a slot, too: the resume
    /// releases all of them at the same time. It is evaluated again after `pause_ms` if no slot becomes free before.
    /// Returns the permit of such a request.
    pub(crate) fn wait_for_slot(&mut self, pause_ms: u64, now: u64) -> Option<&ResumePermit> {
        let is_past_deadline = self.is_past_deadline(now);
        match &mut self.phase {
            Phase::Resuming { permit, not_before, is_crowded } if !is_past_deadline => {
                *not_before = now.saturating_add(pause_ms);
                *is_crowded = true;
                Some(permit)
            }
            _ => None,
        }
    }

    /// A slot of the sandbox is free. Returns whether the request must be evaluated now. If it waits for a lookup, it is
    /// evaluated after that, and another request can have the slot.
    pub(crate) fn on_slot_free(&mut self) -> bool {
        matches!(self.phase, Phase::Resuming { is_crowded: true, .. }) && self.end_pause()
    }

    /// Time has passed. Returns whether the request must be evaluated now, without the result of a lookup.
    pub(crate) fn on_tick(&mut self, now: u64) -> bool {
        if self.is_past_deadline(now) {
            self.deny(self.timeout_denial(), None);
            return true;
        }
        match self.phase {
            Phase::Resuming { not_before, .. } if not_before > now => false,
            // Not if there was no pause: a lookup may have ended since, whose result is to be used.
            Phase::Resuming { not_before, .. } if not_before > 0 => self.end_pause(),
            _ => self.pending_lookups().is_empty(),
        }
    }

    /// Denies the request. A later denial does not replace the first.
    pub(crate) fn deny(&mut self, denial: Denial, retry_after: Option<u32>) {
        let resuming = match &self.phase {
            Phase::Denied { .. } => return,
            Phase::Resuming { permit, .. } => Some(permit.clone()),
            _ => None,
        };
        self.phase = Phase::Denied { denial, retry_after, resuming };
    }

    /// The denial at the deadline.
    pub(crate) fn timeout_denial(&self) -> Denial {
        match self.phase {
            Phase::Resuming { is_crowded: true, .. } => return Denial::TooManyRequests,
            Phase::Resuming { .. } => return Denial::SandboxNotReady,
            _ => {}
        }
        match self.pending_lookups().iter().any(|key| matches!(key, LookupKey::Sandbox(_))) {
            true => Denial::SandboxUpstreamError,
            false => Denial::AuthServiceUnavailable,
        }
    }

    /// Takes the result of a lookup; `None` if the lookup failed. Returns whether the request must be evaluated now.
    pub(crate) fn on_lookup_result(
        &mut self,
        key: &LookupKey,
        result: Option<&LookupResult>,
        now: u64,
    ) -> bool {
        self.lookups.finish(key);
        match (key, result, &mut self.phase) {
            (_, _, Phase::Denied { .. }) => {}
            (LookupKey::Resume { .. }, None, _) => self.deny(Denial::SandboxNotReady, None),
            (LookupKey::Resume { .. }, Some(LookupResult::NotResumable), _) => {
                self.deny(Denial::SandboxNotRunning, None);
            }
            (LookupKey::Resume { .. }, Some(LookupResult::ResumeLimited(seconds)), _) => {
                self.deny(Denial::SandboxNotReady, Some(*seconds));
            }
            (LookupKey::Resume { .. }, Some(LookupResult::Sandbox(None)), _) => {
                self.deny(Denial::SandboxNotFound, None);
            }
            (LookupKey::Resume { .. }, Some(_), Phase::Resuming { not_before, .. }) => {
                *not_before = now.saturating_add(RESUME_PAUSE_MS);
                self.judged_since = None;
            }
            (_, None, phase) => *phase = Phase::CacheOnly,
            (_, Some(_), _) => {}
        }
        self.pending_lookups().is_empty()
    }
}

/// How long a request may wait, by the timeout in its headers, in milliseconds.
fn client_timeout_ms(head: Head<'_>) -> Option<u64> {
    let text = head.first(CLIENT_TIMEOUT_HEADER).and_then(|value| std::str::from_utf8(value).ok());
    let ms: u64 = text?.parse().ok()?;
    Some(ms.saturating_sub(CLIENT_MARGIN_MS).min(RESUME_WAIT_MAX_MS))
}
