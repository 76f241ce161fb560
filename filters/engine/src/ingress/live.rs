//! Live streams: forwarded requests that have not ended. They are counted for each sandbox, and
//! re-evaluated when a sandbox or caller that their permit depends on changes.

use std::collections::BTreeMap;

use sandgate_policy::gateway_api::Change;
use sandgate_policy::ids::{SANDBOX_ID_LENGTH, SandboxId};
use sandgate_policy::ingress::Permit;
use sandgate_policy::ingress::SandboxRequest;
use sandgate_policy::ingress::concurrency::{Class, InFlight, Shares};
use sandgate_policy::ingress::config::IngressConfig;
use sandgate_policy::ingress::credential::Credential;
use sandgate_policy::ingress::head::Head;
use sandgate_policy::ingress::recipient::Recipient;
use sandgate_policy::ingress::slots::{ClientAddress, SlotHolders};
use sandgate_policy::ingress::{hygiene, websocket};

use crate::ingress::effect::{Forward, StreamId};

/// A live stream. No `Debug`: the request may hold a secret.
pub(crate) struct LiveStream {
    pub(crate) request: Box<SandboxRequest>,
    /// The permit of the last evaluation. A change of its sandbox or its caller marks the stream.
    pub(crate) permit: Permit,
    /// How to write a denial that replaces the response.
    pub(crate) recipient: Recipient,
    /// Whether the credential was ever verified. Only then is it a secret of the platform and not of the app.
    is_credential_verified: bool,
    /// The client's address. Only set while the stream is anonymous.
    client: ClientAddress,
    /// Why the stream is about to be reset. From then on it holds none of the sandbox's slots.
    close_reason: Option<&'static str>,
}

impl LiveStream {
    pub(crate) fn new(
        request: Box<SandboxRequest>,
        permit: Permit,
        recipient: Recipient,
        client: ClientAddress,
    ) -> Self {
        let is_credential_verified = permit.caller().is_some();
        Self { request, permit, recipient, is_credential_verified, client, close_reason: None }
    }

    /// The upstream of the request, and the changes to its headers.
    pub(crate) fn forward<'a>(&'a self, head: Head<'_>, config: &IngressConfig) -> Forward<'a> {
        let caller = self.permit.caller();
        let mut changes = hygiene::clean_request(head, config, self.credential(), caller.as_ref());
        changes.extend(websocket::complete_request(head));
        Forward { permit: &self.permit, changes }
    }

    fn depends_on(&self, change: &Change) -> bool {
        match change {
            Change::Sandbox { refs } => refs.iter().any(|name| {
                name == self.request.sandbox().as_str() || name == self.permit.sandbox_id().as_str()
            }),
            Change::Principal { id } => {
                self.permit.caller().is_some_and(|caller| *caller.principal == *id)
            }
        }
    }

    /// The credential that must not reach the sandbox, neither in headers nor in trailers. It is the one that was
    /// verified, even if the port has become public since. A credential that was never verified belongs to the app.
    pub(crate) fn credential(&self) -> Option<&Credential> {
        self.request.credential().filter(|_| self.is_credential_verified)
    }

    fn is_expired(&self, unix_seconds: u64) -> bool {
        self.permit.caller().is_some_and(|caller| caller.is_expired(unix_seconds))
    }
}

/// A canonical id. Unlike a [`SandboxId`], it is copied without an allocation.
type SandboxKey = [u8; SANDBOX_ID_LENGTH];

fn key_of(id: &SandboxId) -> SandboxKey {
    // All ids have this length.
    id.as_str().as_bytes().try_into().unwrap_or_default()
}

/// The live streams of one sandbox.
#[derive(Default)]
struct Occupancy {
    in_flight: InFlight,
    anonymous: SlotHolders,
}

#[derive(Default)]
pub(crate) struct LiveStreams {
    /// In boxes, because streams end in any order, and a removal moves up to ten other entries of the map.
    streams: BTreeMap<StreamId, Box<LiveStream>>,
    sandboxes: BTreeMap<SandboxKey, Occupancy>,
    /// The streams to re-evaluate, with the time at which they were marked.
    marked: BTreeMap<StreamId, u64>,
    /// The stream that was re-evaluated last. The next one has a larger id, so that repeated changes of one owner's
    /// sandboxes don't delay the streams of others.
    last_reevaluated: StreamId,
    /// How many streams are still to be re-evaluated in this sweep.
    left_in_sweep: usize,
}

impl LiveStreams {
    /// Returns the stream in its place.
    pub(crate) fn insert(
        &mut self,
        id: StreamId,
        stream: Box<LiveStream>,
        now: u64,
    ) -> &mut LiveStream {
        self.acquire_slot(id, &stream, now);
        self.streams.entry(id).insert_entry(stream).into_mut()
    }

    pub(crate) fn remove(&mut self, id: StreamId) -> Option<Box<LiveStream>> {
        self.marked.remove(&id);
        let stream = self.streams.remove(&id)?;
        self.release_slot(id, &stream);
        Some(stream)
    }

    pub(crate) fn get(&self, id: StreamId) -> Option<&LiveStream> {
        self.streams.get(&id).map(Box::as_ref)
    }

    /// Replaces the permit of a stream. Returns whether the stream has become anonymous: its client must then be set.
    pub(crate) fn set_permit(&mut self, id: StreamId, permit: Permit, now: u64) -> bool {
        let Some(mut stream) = self.streams.remove(&id) else { return false };
        stream.is_credential_verified |= permit.caller().is_some();
        let has_new_class = permit.class() != stream.permit.class();
        if has_new_class {
            self.release_slot(id, &stream);
            stream.client = ClientAddress::Unknown;
        }
        stream.permit = permit;
        if has_new_class {
            self.acquire_slot(id, &stream, now);
        }
        let is_anonymous = stream.permit.class() == Class::Anonymous;
        self.streams.insert(id, stream);
        has_new_class && is_anonymous
    }

    /// Sets the client of an anonymous stream.
    pub(crate) fn set_client(&mut self, id: StreamId, client: ClientAddress, now: u64) {
        let Some(mut stream) = self.streams.remove(&id) else { return };
        if stream.permit.class() == Class::Anonymous {
            self.release_slot(id, &stream);
            stream.client = client;
            self.acquire_slot(id, &stream, now);
        }
        self.streams.insert(id, stream);
    }

    /// Takes the slot of a stream away, because the stream will be reset. It keeps its entry until then, so that its
    /// response and trailers are still cleaned.
    pub(crate) fn begin_close(&mut self, id: StreamId, reason: &'static str) {
        self.unmark(id);
        if let Some(mut stream) = self.streams.remove(&id) {
            self.release_slot(id, &stream);
            stream.close_reason.get_or_insert(reason);
            self.streams.insert(id, stream);
        }
    }

    /// The reason for which a stream is about to be reset.
    pub(crate) fn close_reason(&self, id: StreamId) -> Option<&'static str> {
        self.streams.get(&id)?.close_reason
    }

    fn acquire_slot(&mut self, id: StreamId, stream: &LiveStream, now: u64) {
        if stream.close_reason.is_some() {
            return;
        }
        let sandbox = self.sandboxes.entry(key_of(stream.permit.sandbox_id())).or_default();
        sandbox.in_flight.add(stream.permit.class());
        if stream.permit.class() == Class::Anonymous {
            sandbox.anonymous.acquire(stream.client, id, now);
        }
    }

    fn release_slot(&mut self, id: StreamId, stream: &LiveStream) {
        if stream.close_reason.is_some() {
            return;
        }
        let key = key_of(stream.permit.sandbox_id());
        let Some(sandbox) = self.sandboxes.get_mut(&key) else { return };
        sandbox.in_flight.remove(stream.permit.class());
        if stream.permit.class() == Class::Anonymous {
            sandbox.anonymous.release(stream.client, id);
        }
        if sandbox.in_flight.is_empty() {
            self.sandboxes.remove(&key);
        }
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.streams.is_empty() && self.sandboxes.is_empty() && self.marked.is_empty()
    }

    /// The live streams of a sandbox, by class.
    pub(crate) fn in_flight(&self, sandbox_id: &SandboxId) -> InFlight {
        self.sandboxes
            .get(&key_of(sandbox_id))
            .map_or_else(InFlight::default, |sandbox| sandbox.in_flight)
    }

    /// Chooses the anonymous stream that gives its slot to a new one of the same sandbox.
    pub(crate) fn choose_eviction(
        &self,
        sandbox_id: &SandboxId,
        newcomer: ClientAddress,
        now: u64,
        silence_ms: u64,
    ) -> Option<StreamId> {
        let sandbox = self.sandboxes.get(&key_of(sandbox_id))?;
        sandbox.anonymous.stream_to_evict(newcomer, now, Some(silence_ms))
    }

    /// The anonymous streams of sandboxes in which more than half of the anonymous share is taken. Their bytes are
    /// read, so that the silent ones are known before the share is full.
    pub(crate) fn streams_of_crowded_sandboxes(&self, shares: &Shares) -> Vec<StreamId> {
        let half = shares.anonymous() / 2;
        let crowded = self.sandboxes.values().filter(|it| it.in_flight.of(Class::Anonymous) > half);
        crowded.flat_map(|sandbox| sandbox.anonymous.streams()).collect()
    }

    /// Records how many bytes were sent on a stream, in both directions.
    pub(crate) fn record_bytes(&mut self, id: StreamId, bytes: u64, now: u64) {
        let Some(stream) = self.streams.get(&id) else { return };
        if let Some(sandbox) = self.sandboxes.get_mut(&key_of(stream.permit.sandbox_id())) {
            sandbox.anonymous.record_bytes(stream.client, id, bytes, now);
        }
    }

    /// Marks the streams that depend on what has changed. Earlier marks stay: the change has outdated the lookups in
    /// flight, and a later time would let repeated changes delay the result of a re-evaluation for ever.
    pub(crate) fn mark_affected(&mut self, change: &Change, now: u64) {
        let affected = self.streams.iter().filter(|(_, stream)| stream.depends_on(change));
        for (id, _) in affected {
            self.marked.entry(*id).or_insert(now);
        }
        self.start_sweep();
    }

    /// Marks one stream, if it is live. An earlier mark stays.
    pub(crate) fn mark(&mut self, id: StreamId, now: u64) {
        if self.streams.contains_key(&id) {
            self.marked.entry(id).or_insert(now);
            self.start_sweep();
        }
    }

    pub(crate) fn mark_all(&mut self, now: u64) {
        self.marked.extend(self.streams.keys().map(|id| (*id, now)));
        self.start_sweep();
    }

    /// Marks the streams whose credential has expired. Earlier marks stay.
    pub(crate) fn mark_expired(&mut self, unix_seconds: u64, now: u64) {
        let expired = self.streams.iter().filter(|(_, stream)| stream.is_expired(unix_seconds));
        for (id, _) in expired {
            self.marked.entry(*id).or_insert(now);
        }
    }

    /// When a stream was marked. `None` if it is not marked.
    pub(crate) fn marked_at(&self, id: StreamId) -> Option<u64> {
        self.marked.get(&id).copied()
    }

    /// Records that a stream has been re-evaluated.
    pub(crate) fn unmark(&mut self, id: StreamId) {
        self.marked.remove(&id);
    }

    /// Begins to re-evaluate every marked stream once, including those whose lookups were pending in the last sweep.
    pub(crate) fn start_sweep(&mut self) {
        self.left_in_sweep = self.marked.len();
    }

    /// Whether streams are left in this sweep.
    pub(crate) fn is_sweeping(&self) -> bool {
        self.left_in_sweep > 0
    }

    /// The next marked streams, at most `max`.
    pub(crate) fn next_marked(&mut self, max: usize) -> Vec<StreamId> {
        let max = max.min(self.left_in_sweep);
        let next = self.last_reevaluated.saturating_add(1);
        let next = self.marked.range(next..).chain(self.marked.range(..next));
        let next: Vec<StreamId> = next.take(max).map(|(id, _)| *id).collect();
        self.left_in_sweep = self.left_in_sweep.saturating_sub(max);
        self.last_reevaluated = next.last().copied().unwrap_or(self.last_reevaluated);
        next
    }
}
