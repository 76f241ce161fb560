//! The state of a hub, under its lock.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use sandgate_policy::gateway_api::{Change, Identity};
use sandgate_policy::ingress::KnownSandbox;
use sandgate_policy::ingress::cache::{Cache, Lifetimes};
use sandgate_policy::ingress::config::IngressConfig;
use sandgate_policy::ingress::credential::CredentialKey;

use crate::ingress::clock::Now;
use crate::ingress::denials::Reports;
use crate::ingress::effect::{CallId, CallIds, CallKind, CallResponse};
use crate::ingress::feed::{Feed, FeedUpdate};
use crate::ingress::lookups::{LookupKey, LookupResult, Lookups, PendingLookup};
use crate::ingress::many_sandboxes::ManySandboxes;

use super::notice::{Content, HubEffect, Notice};

/// The caches, the lookups that fill them, and the change feed that invalidates them. It is the part of the filter's state
/// that does not belong to a stream.
pub(crate) struct State {
    pub(crate) sandboxes: Cache<Arc<str>, Arc<KnownSandbox>>,
    pub(crate) callers: Cache<CredentialKey, Arc<Identity>>,
    pub(crate) lookups: Lookups,
    /// `None` until the hub is started.
    pub(crate) feed: Option<Feed>,
    /// When requests to public ports last resumed a sandbox, in milliseconds.
    pub(super) public_resumes: BTreeMap<String, u64>,
    /// The denied requests, for the owners of the sandboxes.
    pub(crate) reports: Reports,
    many_sandboxes: ManySandboxes,
    call_ids: CallIds,
    effects: VecDeque<HubEffect>,
}

impl State {
    pub(super) fn new(config: &IngressConfig) -> Self {
        let limits = config.limits();
        Self {
            sandboxes: Cache::new(limits.cache_entries, Lifetimes::of_sandboxes(limits)),
            callers: Cache::new(limits.cache_entries, Lifetimes::of_credentials(limits)),
            lookups: Lookups::new(limits.lookups_in_flight),
            feed: None,
            public_resumes: BTreeMap::new(),
            reports: Reports::default(),
            many_sandboxes: ManySandboxes::default(),
            call_ids: CallIds::default(),
            effects: VecDeque::new(),
        }
    }

    /// Begins anew. No call gets the number of an earlier one, whose response may still arrive.
    pub(super) fn renew(&mut self, config: &IngressConfig) {
        let feed = self.feed.as_ref().map(Feed::restarted);
        let call_ids = std::mem::take(&mut self.call_ids);
        *self = Self { feed, call_ids, ..Self::new(config) };
        self.effects.push_back(HubEffect::Run);
    }

    pub(super) fn start(&mut self, watcher: String) {
        self.feed.get_or_insert_with(|| Feed::new(watcher));
    }

    pub(super) fn next_effect(&mut self) -> Option<HubEffect> {
        self.effects.pop_front()
    }

    pub(crate) fn covered_since(&self) -> Option<u64> {
        self.feed.as_ref().and_then(Feed::covered_since)
    }

    pub(super) fn on_tick(&mut self, config: &IngressConfig, now: Now) {
        let no_feed_ttl = config.limits().no_feed_ttl_ms.into();
        let feed = self.feed.as_mut();
        if feed.is_some_and(|feed| feed.take_early_entries_expired(now.ms, no_feed_ttl)) {
            self.notify_all(Content::EarlyEntriesExpired, now);
        }
    }

    pub(super) fn warning(&mut self, config: &IngressConfig) -> Option<String> {
        // A sandbox that is requested by its name and by its id counts twice.
        self.many_sandboxes.warning(config.upstream(), self.sandboxes.positive_len())
    }

    pub(super) fn run(&mut self, config: &IngressConfig, now: Now) {
        if let Some(feed) = self.feed.as_mut().filter(|feed| feed.is_due(now.ms)) {
            let call = feed.poll(self.call_ids.next(), config, now.ms);
            self.effects.push_back(HubEffect::Call(call));
        }
        // A denial is counted after a lookup of its sandbox, so the hub is started.
        if self.reports.is_due(now.ms) {
            let call = self.reports.send(self.call_ids.next(), now.ms);
            self.effects.push_back(HubEffect::Call(call));
        }
        while let Some(call) = self.lookups.next_call(config, &mut self.call_ids, now.ms) {
            self.effects.push_back(HubEffect::Call(call));
        }
    }

    pub(super) fn on_call_response(
        &mut self,
        call: CallId,
        response: Option<&CallResponse<'_>>,
        now: Now,
    ) {
        if let Some(feed) = self.feed.as_mut().filter(|feed| feed.owns(call)) {
            let update = feed.on_response(response, now.ms);
            let is_answered = update.is_some();
            let kind = CallKind::Changes;
            self.effects.push_back(HubEffect::CallFinished { kind, is_answered });
            if let Some(update) = update {
                self.invalidate(&update);
                self.notify_all(Content::Changed(Arc::new(update.changes)), now);
            }
        } else if self.reports.owns(call) {
            self.reports.finish(response, now.ms);
        } else if let Some((key, lookup)) = self.lookups.finish(call) {
            let result = response.and_then(|response| LookupResult::parse(&key, response));
            // A malformed response about one tenant must not pause the lookups of all.
            let is_available = result.is_some() || response.is_some_and(CallResponse::is_success);
            self.lookups.record(is_available, now.ms);
            self.on_lookup_result(&Arc::new(key), lookup, result, now);
        }
    }

    pub(super) fn on_call_failed(&mut self, call: CallId, now: Now) {
        if let Some(feed) = self.feed.as_mut().filter(|feed| feed.owns(call)) {
            feed.on_response(None, now.ms);
            let kind = CallKind::Changes;
            self.effects.push_back(HubEffect::CallFinished { kind, is_answered: false });
        } else if self.reports.owns(call) {
            self.reports.finish(None, now.ms);
        } else if let Some((key, lookup)) = self.lookups.finish(call) {
            self.lookups.record(false, now.ms);
            self.on_lookup_result(&Arc::new(key), lookup, None, now);
        }
        if self.lookups.can_send() {
            self.effects.push_back(HubEffect::Run);
        }
    }

    /// Takes the result of a lookup; `None` if the lookup failed.
    fn on_lookup_result(
        &mut self,
        key: &Arc<LookupKey>,
        lookup: PendingLookup,
        result: Option<LookupResult>,
        now: Now,
    ) {
        let is_answered = result.is_some();
        self.effects.push_back(HubEffect::CallFinished { kind: key.kind(), is_answered });
        let result = result.map(Arc::new);
        if let Some(result) = &result {
            self.store(key, &lookup, result, now);
        }
        // The waiters are in the order of their workers.
        let mut waiters = lookup.waiters.into_iter().peekable();
        while let Some((worker, first)) = waiters.next() {
            let mut streams = vec![first];
            while let Some((_, stream)) = waiters.next_if(|(next, _)| *next == worker) {
                streams.push(stream);
            }
            let (key, result) = (key.clone(), result.clone());
            let content = Content::LookupEnded { key, result, streams };
            self.effects.push_back(HubEffect::Notify(worker, Notice { at: now.ms, content }));
        }
    }

    fn notify_all(&mut self, content: Content, now: Now) {
        self.effects.push_back(HubEffect::NotifyAll(Notice { at: now.ms, content }));
    }

    /// Caches the result of a lookup.
    fn store(&mut self, key: &LookupKey, lookup: &PendingLookup, result: &LookupResult, now: Now) {
        // An outdated result is not cached. The waiting requests start the lookup again.
        if lookup.is_outdated {
            return;
        }
        match (key, result) {
            (LookupKey::Sandbox(name), LookupResult::Sandbox(sandbox)) => {
                self.sandboxes.insert(name.as_str().into(), sandbox.clone(), lookup.sent_at);
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
                    self.sandboxes.insert(name.into(), Some(Arc::clone(sandbox)), now.ms);
                }
            }
            (LookupKey::Resume { sandbox_id, .. }, LookupResult::Sandbox(None)) => {
                self.sandboxes.remove(sandbox_id.as_str());
            }
            _ => {}
        }
    }

    /// Removes cache entries that are outdated, and marks the lookups in flight whose result may be.
    fn invalidate(&mut self, update: &FeedUpdate) {
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
                        self.sandboxes.remove(name.as_str());
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
}
