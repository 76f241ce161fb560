//! Lookups at the control plane. Streams that need the same result share one lookup.

mod fair_queue;
mod key;
mod project_queue;
mod result;
mod turns;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sandgate_policy::gateway_api::ResumeRequest;
use sandgate_policy::ids::ProjectId;
use sandgate_policy::ingress::config::IngressConfig;
use sandgate_policy::ingress::credential::Credential;
use sandgate_policy::ingress::slots::ClientAddress;

use crate::ingress::effect::{Call, CallId, CallIds, StreamId};
use crate::ingress::hub::WorkerId;

use self::fair_queue::FairQueue;
use self::project_queue::ProjectQueue;

pub(crate) use self::key::LookupKey;
pub(crate) use self::result::LookupResult;

/// How long the control plane holds a resume call, in milliseconds. A request that waits longer sends
/// another call.
const RESUME_HOLD_MS: u32 = 25_000;
/// The number of failures in a row after which no lookup starts for [`COOLDOWN_MS`].
const FAILURES_MAX: u32 = 5;
/// The time for which no lookup starts after [`FAILURES_MAX`] failures in a row, in milliseconds.
const COOLDOWN_MS: u64 = 1_000;

/// A stream of a worker that waits for the result of a lookup.
pub(crate) type Waiter = (WorkerId, StreamId);

/// A lookup that has not finished, queued or sent, and the streams that wait for it. No `Debug`: the body may hold
/// a secret.
pub(crate) struct PendingLookup {
    pub(crate) waiters: BTreeSet<Waiter>,
    /// In milliseconds. Until the call is sent, the time at which the lookup was queued.
    pub(crate) sent_at: u64,
    /// Whether its subject changed after the call was sent. The result may then be from before the change.
    pub(crate) is_outdated: bool,
    body: Option<Vec<u8>>,
    /// Why it was started. Decides its queue.
    reason: LookupReason,
}

/// The reason for a lookup, which decides its queue. Each queue has a capacity of its own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum LookupReason {
    /// A request of this client waits.
    Request(ClientAddress),
    /// A request of this client waits for a sandbox of this project to run. The control plane holds such a call for long.
    Resume(ProjectId, ClientAddress),
    /// A live stream is re-evaluated. A flood of requests must not delay a revocation.
    LiveStream,
}

pub(crate) struct Lookups {
    lookups: BTreeMap<LookupKey, PendingLookup>,
    calls: BTreeMap<CallId, LookupKey>,
    requests: FairQueue,
    live_streams: FairQueue,
    resumes: ProjectQueue,
    /// Failures in a row.
    failures: u32,
    paused_until: u64,
}

impl Lookups {
    /// `capacity` is the number of calls that may be in flight from each queue.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            lookups: BTreeMap::new(),
            calls: BTreeMap::new(),
            requests: FairQueue::new(capacity),
            live_streams: FairQueue::new(capacity),
            resumes: ProjectQueue::new(capacity),
            failures: 0,
            paused_until: 0,
        }
    }

    /// Adds a lookup to its queue.
    fn add(&mut self, reason: &LookupReason, key: LookupKey) {
        match reason {
            LookupReason::Request(client) => self.requests.add(*client, key),
            LookupReason::Resume(project, client) => self.resumes.add(project, *client, key),
            LookupReason::LiveStream => self.live_streams.add(ClientAddress::Unknown, key),
        }
    }

    /// Removes a lookup from its queue. Returns false if it was sent.
    fn withdraw(&mut self, reason: &LookupReason, key: &LookupKey) -> bool {
        match reason {
            LookupReason::Request(client) => self.requests.withdraw(*client, key),
            LookupReason::Resume(project, client) => self.resumes.withdraw(project, *client, key),
            LookupReason::LiveStream => self.live_streams.withdraw(ClientAddress::Unknown, key),
        }
    }

    /// Ends a lookup that was sent.
    fn done(&mut self, reason: &LookupReason) {
        match reason {
            LookupReason::Request(client) => self.requests.done(*client),
            LookupReason::Resume(project, client) => self.resumes.done(project, *client),
            LookupReason::LiveStream => self.live_streams.done(ClientAddress::Unknown),
        }
    }

    /// Lets a stream wait for the result of a lookup, and starts the lookup if it is not in flight.
    /// Returns false if no lookup can start now. The number of waiting requests and live streams bounds
    /// the number of lookups.
    pub(crate) fn join(
        &mut self,
        key: &LookupKey,
        credential: Option<&Credential>,
        waiter: Waiter,
        reason: LookupReason,
        now: u64,
    ) -> bool {
        if let Some(lookup) = self.lookups.get_mut(key) {
            lookup.waiters.insert(waiter);
            if reason == LookupReason::LiveStream {
                self.prioritize(key);
            }
            return true;
        }
        if now < self.paused_until {
            return false;
        }
        self.add(&reason, key.clone());
        let lookup = PendingLookup {
            waiters: BTreeSet::from([waiter]),
            sent_at: now,
            is_outdated: false,
            body: body(key, credential),
            reason,
        };
        self.lookups.insert(key.clone(), lookup);
        true
    }

    /// Moves a lookup whose call is not sent yet into the queue of live streams.
    fn prioritize(&mut self, key: &LookupKey) {
        let Some(reason) = self.lookups.get(key).map(|lookup| lookup.reason.clone()) else {
            return;
        };
        if reason != LookupReason::LiveStream && self.withdraw(&reason, key) {
            self.add(&LookupReason::LiveStream, key.clone());
            if let Some(lookup) = self.lookups.get_mut(key) {
                lookup.reason = LookupReason::LiveStream;
            }
        }
    }

    /// Removes a stream from the waiters of a lookup. A lookup without waiters is not sent.
    pub(crate) fn leave(&mut self, key: &LookupKey, waiter: Waiter) {
        let Some(lookup) = self.lookups.get_mut(key) else { return };
        lookup.waiters.remove(&waiter);
        if !lookup.waiters.is_empty() {
            return;
        }
        let reason = lookup.reason.clone();
        if self.withdraw(&reason, key) {
            self.lookups.remove(key);
        }
    }

    /// Removes all streams of a worker from the waiters.
    pub(crate) fn leave_all(&mut self, worker: WorkerId) {
        let waiters = self.lookups.iter().flat_map(|(key, lookup)| {
            lookup.waiters.range(worker.streams()).map(move |waiter| (key.clone(), *waiter))
        });
        for (key, waiter) in waiters.collect::<Vec<_>>() {
            self.leave(&key, waiter);
        }
    }

    pub(crate) fn contains(&self, key: &LookupKey) -> bool {
        self.lookups.contains_key(key)
    }

    /// Whether a stream waits for the result of a lookup.
    #[cfg(test)]
    pub(crate) fn waits(&self, key: &LookupKey, waiter: Waiter) -> bool {
        self.lookups.get(key).is_some_and(|lookup| lookup.waiters.contains(&waiter))
    }

    #[cfg(test)]
    pub(crate) fn calls_in_flight(&self) -> impl Iterator<Item = &LookupKey> {
        self.calls.values()
    }

    /// Whether a call can be sent now.
    pub(crate) fn can_send(&self) -> bool {
        self.live_streams.can_send() || self.requests.can_send() || self.resumes.can_send()
    }

    /// Marks the lookups whose call was sent before a change of their subject.
    pub(crate) fn mark_outdated(&mut self, is_affected: impl Fn(&LookupKey) -> bool) {
        for key in self.calls.values().filter(|key| is_affected(key)) {
            if let Some(lookup) = self.lookups.get_mut(key) {
                lookup.is_outdated = true;
            }
        }
    }

    /// Returns the next call to send. Lookups for live streams come first.
    pub(crate) fn next_call(
        &mut self,
        config: &IngressConfig,
        ids: &mut CallIds,
        now: u64,
    ) -> Option<Call> {
        let key = self.live_streams.next();
        let key = key.or_else(|| self.requests.next()).or_else(|| self.resumes.next())?;
        let lookup = self.lookups.get_mut(&key)?;
        lookup.sent_at = now;
        let call = call(ids.next(), &key, lookup.body.take(), config);
        self.calls.insert(call.id, key);
        Some(call)
    }

    /// Removes the lookup that a call belongs to, because the call has ended.
    pub(crate) fn finish(&mut self, call: CallId) -> Option<(LookupKey, PendingLookup)> {
        let key = self.calls.remove(&call)?;
        let lookup = self.lookups.remove(&key)?;
        self.done(&lookup.reason);
        Some((key, lookup))
    }

    /// Records whether the control plane answered a call.
    pub(crate) fn record(&mut self, is_answered: bool, now: u64) {
        if is_answered {
            self.failures = 0;
            self.paused_until = 0;
            return;
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures >= FAILURES_MAX {
            self.paused_until = now.saturating_add(COOLDOWN_MS);
        }
    }
}

fn body(key: &LookupKey, credential: Option<&Credential>) -> Option<Vec<u8>> {
    match key {
        LookupKey::Sandbox(_) => None,
        LookupKey::Caller(_) => serde_json::to_vec(&credential?.introspect_request()).ok(),
        LookupKey::Resume { public, .. } => {
            let request = ResumeRequest { wait_ms: RESUME_HOLD_MS.into(), public: *public };
            serde_json::to_vec(&request).ok()
        }
    }
}

fn call(id: CallId, key: &LookupKey, body: Option<Vec<u8>>, config: &IngressConfig) -> Call {
    let (method, path, hold_ms) = match key {
        LookupKey::Sandbox(name) => ("GET", format!("/gateway/v1/sandboxes/{name}"), 0),
        LookupKey::Caller(_) => ("POST", "/gateway/v1/credentials/introspect".to_owned(), 0),
        LookupKey::Resume { sandbox_id, .. } => {
            ("POST", format!("/gateway/v1/sandboxes/{sandbox_id}/resume"), RESUME_HOLD_MS)
        }
    };
    let timeout_ms = config.control_plane().timeout_ms.saturating_add(hold_ms);
    Call { id, method, path, body, timeout: Duration::from_millis(timeout_ms.into()) }
}
