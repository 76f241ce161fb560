//! Resolves the sandbox and the caller of a stream: from the caches, or by lookups.

mod requester;

use std::sync::Arc;

use sandgate_policy::gateway_api::{Change, Identity};
use sandgate_policy::ingress::cache::{Cache, Lifetimes};
use sandgate_policy::ingress::config::Limits;
use sandgate_policy::ingress::credential::CredentialKey;
use sandgate_policy::ingress::{KnownSandbox, Resolved, SandboxRequest};

use crate::ingress::clock::Now;
use crate::ingress::feed::{Feed, FeedUpdate};
use crate::ingress::lookups::{LookupKey, LookupReason, LookupResult, Lookups, PendingLookup};

pub(crate) use self::requester::{Requester, RequesterKind, StreamLookups};

/// What was resolved; `None` while a lookup is pending.
type Progress<T> = Option<Resolved<Arc<T>>>;

/// The caches, the lookups that fill them, and the change feed that invalidates them. It is the part
/// of the state that does not belong to a stream.
pub(crate) struct Resolver {
    sandboxes: Cache<String, Arc<KnownSandbox>>,
    callers: Cache<CredentialKey, Arc<Identity>>,
    pub(crate) lookups: Lookups,
    /// `None` until the engine is started.
    pub(crate) feed: Option<Feed>,
}

impl Resolver {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            sandboxes: Cache::new(limits.cache_entries, Lifetimes::of_sandboxes(limits)),
            callers: Cache::new(limits.cache_entries, Lifetimes::of_credentials(limits)),
            lookups: Lookups::new(limits.lookups_in_flight),
            feed: None,
        }
    }

    fn covered_since(&self) -> Option<u64> {
        self.feed.as_ref().and_then(Feed::covered_since)
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

    fn resolve_sandbox(
        &mut self,
        request: &SandboxRequest,
        requester: &mut Requester<'_>,
        now: Now,
    ) -> Progress<KnownSandbox> {
        let name = request.sandbox().as_str();
        let covered_since = self.covered_since();
        let entry = self.sandboxes.fresh(name, now.ms, covered_since, requester.arrived_at);
        if let Some(entry) = entry {
            return Some(entry.value().cloned().into());
        }
        let key = LookupKey::Sandbox(name.to_owned());
        if requester.may_look_up && self.look_up(key, request, requester, now) {
            return None;
        }
        let reported = self.feed.as_ref().and_then(Feed::reported);
        let stale =
            self.sandboxes.stale(name, now.ms, reported).filter(|_| requester.may_use_stale());
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
        let covered_since = self.covered_since();
        if let Some(entry) = self.callers.fresh(&key, now.ms, covered_since, requester.arrived_at) {
            return Some(entry.value().cloned().into());
        }
        if requester.may_look_up && self.look_up(LookupKey::Caller(key), request, requester, now) {
            return None;
        }
        let reported = self.feed.as_ref().and_then(Feed::reported);
        let stale =
            self.callers.stale(&key, now.ms, reported).filter(|_| requester.may_use_stale());
        Some(stale.cloned().map_or(Resolved::Unavailable, Resolved::Found))
    }

    /// Lets the stream wait for a lookup. Returns false if no lookup can start now.
    pub(crate) fn look_up(
        &mut self,
        key: LookupKey,
        request: &SandboxRequest,
        requester: &mut Requester<'_>,
        now: Now,
    ) -> bool {
        let reason = match requester.kind {
            RequesterKind::Request(properties) => LookupReason::Request(properties.client()),
            RequesterKind::LiveStream => LookupReason::LiveStream,
        };
        if !self.lookups.join(&key, request.credential(), requester.stream, reason, now.ms) {
            return false;
        }
        requester.lookups.start(key);
        true
    }

    /// Repeats the lookups that a denial depends on, unless the caches limit it. Returns whether one is pending now.
    pub(crate) fn recheck(
        &mut self,
        request: &SandboxRequest,
        sandbox: &Resolved<Arc<KnownSandbox>>,
        requester: &mut Requester<'_>,
        now: Now,
    ) -> bool {
        if request.needs_sandbox() {
            let name = request.sandbox().as_str();
            let key = LookupKey::Sandbox(name.to_owned());
            if self.sandboxes.take_recheck(name, requester.recheck_before(&key), now.ms) {
                self.look_up(key, request, requester, now);
            }
        }
        if request.needs_caller(Some(sandbox))
            && let Some(credential) = request.credential().map(|credential| credential.key())
        {
            let key = LookupKey::Caller(credential);
            if self.callers.take_recheck(&credential, requester.recheck_before(&key), now.ms) {
                self.look_up(key, request, requester, now);
            }
        }
        !requester.lookups.pending().is_empty()
    }

    /// Caches the result of a lookup.
    pub(crate) fn store(
        &mut self,
        key: &LookupKey,
        lookup: &PendingLookup,
        result: &LookupResult,
        now: Now,
    ) {
        // An outdated result is not cached. The waiting requests start the lookup again.
        if lookup.is_outdated {
            return;
        }
        match (key, result) {
            (LookupKey::Sandbox(name), LookupResult::Sandbox(sandbox)) => {
                self.sandboxes.insert(name.clone(), sandbox.clone(), lookup.sent_at);
            }
            (LookupKey::Caller(credential), LookupResult::Caller(identity)) => {
                self.callers.insert(*credential, identity.clone(), lookup.sent_at);
            }
            (LookupKey::Resume { .. }, LookupResult::Sandbox(Some(sandbox))) => {
                // The control plane held the response until the sandbox ran. The result is therefore valid from
                // now, and not from the time at which the call was sent.
                for name in
                    [Some(sandbox.id.as_str()), sandbox.name.as_deref()].into_iter().flatten()
                {
                    self.sandboxes.insert(name.to_owned(), Some(Arc::clone(sandbox)), now.ms);
                }
            }
            (LookupKey::Resume { sandbox_id, .. }, LookupResult::Sandbox(None)) => {
                self.sandboxes.remove(sandbox_id);
            }
            _ => {}
        }
    }

    /// Removes cache entries that are outdated, and marks the lookups in flight whose result may be.
    pub(crate) fn invalidate(&mut self, update: &FeedUpdate) {
        let changes = &update.changes;
        if changes.reset {
            self.sandboxes.clear();
            self.callers.clear();
            // Results of lookups that were sent before the first response are kept, but only for `no_feed_ttl_ms`. After
            // that time, all live streams are re-evaluated.
            if !update.is_first {
                self.lookups.mark_outdated(|_| true);
            }
        }
        for change in &changes.changes {
            match change {
                Change::Sandbox { refs } => {
                    for name in refs {
                        self.sandboxes.remove(name);
                    }
                    self.lookups.mark_outdated(|key| match key {
                        LookupKey::Sandbox(name) | LookupKey::Resume { sandbox_id: name, .. } => {
                            refs.contains(name)
                        }
                        LookupKey::Caller(_) => false,
                    });
                }
                Change::Principal { id } => {
                    // Only the result tells which principal a credential belongs to.
                    self.lookups.mark_outdated(|key| matches!(key, LookupKey::Caller(_)));
                    self.callers.remove_where(|identity| identity.principal == *id);
                }
            }
        }
    }

    /// The number of cached sandboxes. One that is requested by its name and by its id counts twice.
    pub(crate) fn known_sandboxes(&self) -> usize {
        self.sandboxes.positive_len()
    }

    /// The number of entries of the larger cache.
    #[cfg(test)]
    pub(crate) fn cache_entries(&self) -> usize {
        self.sandboxes.len().max(self.callers.len())
    }
}
