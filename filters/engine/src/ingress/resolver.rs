//! Resolves the sandbox and the caller of a stream: from the caches, or by lookups.

mod requester;

use std::sync::Arc;

use sandgate_policy::gateway_api::Identity;
use sandgate_policy::ids::{ProjectId, SandboxId};
use sandgate_policy::ingress::cache::{Lifetimes, Times, View};
use sandgate_policy::ingress::credential::CredentialKey;
use sandgate_policy::ingress::denial::Denial;
use sandgate_policy::ingress::{KnownSandbox, Resolved, ResumePermit, SandboxRequest};

use crate::ingress::clock::Now;
use crate::ingress::denials;
use crate::ingress::effect::StreamId;
use crate::ingress::feed::Feed;
use crate::ingress::hub::{Hub, ResumeLookup, State, WorkerId};
use crate::ingress::lookups::{LookupKey, LookupReason};

pub(crate) use self::requester::{Requester, RequesterKind, StreamLookups};

/// What was resolved; `None` while a lookup is pending.
type Progress<T> = Option<Resolved<Arc<T>>>;

/// One worker's access to the caches and the lookups of the hub.
pub(crate) struct Resolver {
    hub: Arc<Hub>,
    worker: WorkerId,
    /// The state of the hub that the views are of.
    epoch: u64,
    sandboxes: View<Arc<str>, Arc<KnownSandbox>>,
    callers: View<CredentialKey, Arc<Identity>>,
    /// Whether the hub has a call to send since this was last asked.
    must_run_hub: bool,
}

impl Resolver {
    pub(crate) fn new(hub: Arc<Hub>, worker: WorkerId) -> Self {
        let limits = hub.config().limits();
        Self {
            worker,
            epoch: hub.epoch(),
            sandboxes: View::new(Lifetimes::of_sandboxes(limits)),
            callers: View::new(Lifetimes::of_credentials(limits)),
            must_run_hub: false,
            hub,
        }
    }

    pub(crate) fn is_hub_started(&self) -> bool {
        self.hub.is_started()
    }

    /// Counts a denied request to a sandbox. The hub has the counts, because a worker without streams has no ticks in which it could
    /// report them.
    pub(crate) fn count_denial(
        &self,
        project: &ProjectId,
        sandbox: &SandboxId,
        port: u16,
        denial: Denial,
    ) {
        if denials::is_by_rule(denial) {
            self.hub.lock().reports.pending.count(project, sandbox, port, denial);
        }
    }

    pub(crate) fn must_run_hub(&self) -> bool {
        self.must_run_hub
    }

    /// Whether the hub has a call to send since the last call of this.
    pub(crate) fn take_must_run_hub(&mut self) -> bool {
        std::mem::take(&mut self.must_run_hub)
    }

    /// Returns true once after the hub has begun anew: all lookups are lost, and what the views held is dropped.
    pub(crate) fn take_renewal(&mut self) -> bool {
        let epoch = self.hub.epoch();
        if self.epoch == epoch {
            return false;
        }
        self.epoch = epoch;
        self.sandboxes.clear();
        self.callers.clear();
        true
    }

    /// Resolves the sandbox and the caller. `None` where a lookup is pending.
    pub(crate) fn resolve(
        &mut self,
        request: &SandboxRequest,
        requester: &mut Requester<'_>,
        now: Now,
    ) -> (Progress<KnownSandbox>, Progress<Identity>) {
        let sandbox = match request.needs_sandbox() {
            true => self.resolve_sandbox(request, requester, now),
            false => Some(Resolved::NotFound),
        };
        let caller = match request.needs_caller(sandbox.as_ref()) {
            true => self.resolve_caller(request, requester, now),
            false => Some(Resolved::NotFound),
        };
        (sandbox, caller)
    }

    fn times(&self, requester: &Requester<'_>, now: Now) -> Times {
        let covered_since = self.hub.covered_since();
        Times { now: now.ms, covered_since, arrived_at: requester.arrived_at }
    }

    fn resolve_sandbox(
        &mut self,
        request: &SandboxRequest,
        requester: &mut Requester<'_>,
        now: Now,
    ) -> Progress<KnownSandbox> {
        let name = request.sandbox().as_str();
        let times = self.times(requester, now);
        if let Some(entry) = self.sandboxes.fresh(name, times) {
            return Some(entry.value().cloned().into());
        }
        let reason = requester.reason();
        let mut hub = self.hub.lock();
        let times = Times { covered_since: hub.covered_since(), ..times };
        if let Some(entry) = self.sandboxes.take_over(&hub.sandboxes, name, times) {
            return Some(entry.value().cloned().into());
        }
        if let Some(reason) = reason {
            let key = LookupKey::Sandbox(name.to_owned());
            if join(&mut hub, self.worker, key, request, requester, reason, now) {
                self.must_run_hub |= hub.lookups.can_send();
                return None;
            }
        }
        let reported = hub.feed.as_ref().and_then(Feed::reported);
        let stale = hub.sandboxes.stale(name, now.ms, reported);
        let stale = stale.filter(|_| requester.may_use_stale());
        Some(stale.cloned().map_or(Resolved::Unavailable, Resolved::Found))
    }

    fn resolve_caller(
        &mut self,
        request: &SandboxRequest,
        requester: &mut Requester<'_>,
        now: Now,
    ) -> Progress<Identity> {
        let Some(credential) = request.credential() else { return Some(Resolved::NotFound) };
        let key = credential.key();
        let times = self.times(requester, now);
        if let Some(entry) = self.callers.fresh(&key, times) {
            return Some(entry.value().cloned().into());
        }
        let reason = requester.reason();
        let mut hub = self.hub.lock();
        let times = Times { covered_since: hub.covered_since(), ..times };
        if let Some(entry) = self.callers.take_over(&hub.callers, &key, times) {
            return Some(entry.value().cloned().into());
        }
        if let Some(reason) = reason
            && join(&mut hub, self.worker, LookupKey::Caller(key), request, requester, reason, now)
        {
            self.must_run_hub |= hub.lookups.can_send();
            return None;
        }
        let reported = hub.feed.as_ref().and_then(Feed::reported);
        let stale = hub.callers.stale(&key, now.ms, reported);
        let stale = stale.filter(|_| requester.may_use_stale());
        Some(stale.cloned().map_or(Resolved::Unavailable, Resolved::Found))
    }

    /// Repeats the lookups that a denial depends on, unless the caches limit it. Returns whether one is pending now.
    pub(crate) fn recheck(
        &mut self,
        request: &SandboxRequest,
        sandbox: &Resolved<Arc<KnownSandbox>>,
        requester: &mut Requester<'_>,
        now: Now,
    ) -> bool {
        let mut keys = Vec::new();
        let mut hub = self.hub.lock();
        if request.needs_sandbox() {
            let name = request.sandbox().as_str();
            let key = LookupKey::Sandbox(name.to_owned());
            if hub.sandboxes.take_recheck(name, requester.recheck_before(&key), now.ms) {
                keys.push(key);
            }
        }
        if request.needs_caller(Some(sandbox))
            && let Some(credential) = request.credential().map(|credential| credential.key())
        {
            let key = LookupKey::Caller(credential);
            if hub.callers.take_recheck(&credential, requester.recheck_before(&key), now.ms) {
                keys.push(key);
            }
        }
        drop(hub);
        for key in keys {
            if let Some(reason) = requester.reason() {
                let mut hub = self.hub.lock();
                join(&mut hub, self.worker, key, request, requester, reason, now);
                self.must_run_hub |= hub.lookups.can_send();
            }
        }
        !requester.lookups.pending().is_empty()
    }

    /// Lets the stream wait for the resume of a sandbox.
    pub(crate) fn join_resume(
        &mut self,
        permit: &ResumePermit,
        requester: &mut Requester<'_>,
        now: Now,
    ) -> ResumeLookup {
        let Some(LookupReason::Request(client)) = requester.reason() else {
            return ResumeLookup::Refused;
        };
        let waiter = (self.worker, requester.stream);
        let mut hub = self.hub.lock();
        let joined = hub.join_resume(permit, waiter, client, self.hub.config(), now.ms);
        if let ResumeLookup::Joined(key) = &joined {
            requester.lookups.start(key.clone());
            self.must_run_hub |= hub.lookups.can_send();
        }
        joined
    }

    /// The number of entries of the larger view.
    #[cfg(test)]
    pub(crate) fn view_entries(&self) -> usize {
        self.sandboxes.len().max(self.callers.len())
    }

    /// A stream no longer waits for these lookups.
    pub(crate) fn leave(&self, keys: &[LookupKey], stream: StreamId) {
        if !keys.is_empty() {
            let mut hub = self.hub.lock();
            keys.iter().for_each(|key| hub.lookups.leave(key, (self.worker, stream)));
        }
    }
}

/// Lets the stream wait for a lookup. Returns false if no lookup can start now.
fn join(
    hub: &mut State,
    worker: WorkerId,
    key: LookupKey,
    request: &SandboxRequest,
    requester: &mut Requester<'_>,
    reason: LookupReason,
    now: Now,
) -> bool {
    let waiter = (worker, requester.stream);
    if !hub.lookups.join(&key, request.credential(), waiter, reason, now.ms) {
        return false;
    }
    requester.lookups.start(key);
    true
}
