//! Streams that were forwarded and have not ended: counted by sandbox, and judged again when what
//! their permit rested on changes.

use std::collections::{BTreeMap, BTreeSet};

use sandgate_policy::gateway_api::Change;
use sandgate_policy::ingress::concurrency::{Class, InFlight, Shares};
use sandgate_policy::ingress::credential::Credential;
use sandgate_policy::ingress::recipient::Recipient;
use sandgate_policy::ingress::slots::{Client, SlotHolders};
use sandgate_policy::ingress::{Permit, SandboxRequest};

/// One forwarded stream. No `Debug`: the request may hold a secret.
pub(crate) struct LiveStream {
    pub(crate) request: SandboxRequest,
    /// The permit of the last judgement. The stream depends on nothing else.
    pub(crate) permit: Permit,
    /// Whether the credential was ever verified. Such a credential is not a secret of the app.
    is_credential_ours: bool,
    /// Who reads a denial that replaces the response.
    pub(crate) recipient: Recipient,
    /// The client that sent the request. Only set while the stream is anonymous.
    client: Client,
    /// Whether the stream holds one of the sandbox's places. A stream without a place is about to be reset.
    has_place: bool,
}

impl LiveStream {
    pub(crate) fn new(
        request: SandboxRequest,
        permit: Permit,
        recipient: Recipient,
        client: Client,
    ) -> Self {
        let is_credential_ours = permit.caller().is_some();
        Self { request, permit, is_credential_ours, recipient, client, has_place: true }
    }

    fn rests_on(&self, change: &Change) -> bool {
        match change {
            Change::Sandbox { refs } => refs.iter().any(|name| {
                name == self.request.sandbox().as_str() || name == self.permit.sandbox_id()
            }),
            Change::Principal { id } => {
                self.permit.caller().is_some_and(|caller| caller.principal == *id)
            }
        }
    }

    /// The credential that trailers must not carry to the sandbox. It is the one that was verified, even if the port
    /// has become public since. A credential that was never verified belongs to the app.
    pub(crate) fn credential(&self) -> Option<&Credential> {
        self.request.credential().filter(|_| self.is_credential_ours)
    }

    pub(crate) fn is_expired(&self, unix_seconds: u64) -> bool {
        self.permit.caller().is_some_and(|caller| caller.is_expired(unix_seconds))
    }
}

/// The live streams of one sandbox.
#[derive(Default)]
struct Occupancy {
    in_flight: InFlight,
    anonymous: SlotHolders,
}

/// All live streams of a VM.
#[derive(Default)]
pub(crate) struct Live {
    streams: BTreeMap<u32, LiveStream>,
    /// By the sandbox's canonical id.
    sandboxes: BTreeMap<String, Occupancy>,
    suspects: BTreeSet<u32>,
    /// The suspect that was judged last. The next turn goes on behind it, so that changes which
    /// concern one owner's streams again and again keep nobody else's from being judged.
    judged: u32,
    /// Suspects still to be judged in this round.
    left: usize,
}

impl Live {
    pub(crate) fn insert(&mut self, id: u32, stream: LiveStream, now: u64) {
        self.count(id, &stream, now);
        self.streams.insert(id, stream);
    }

    pub(crate) fn remove(&mut self, id: u32) {
        self.suspects.remove(&id);
        if let Some(stream) = self.streams.remove(&id) {
            self.uncount(id, &stream);
        }
    }

    /// Replaces the permit of a stream that was taken out, and moves its place if the class changes. `client` is
    /// called if the stream becomes anonymous.
    pub(crate) fn rest_on(
        &mut self,
        id: u32,
        stream: &mut LiveStream,
        permit: Permit,
        now: u64,
        client: impl FnOnce() -> Client,
    ) {
        stream.is_credential_ours |= permit.caller().is_some();
        if permit.class() == stream.permit.class() {
            stream.permit = permit;
            return;
        }
        self.uncount(id, stream);
        stream.permit = permit;
        if stream.permit.class() == Class::Anonymous {
            stream.client = client();
        }
        self.count(id, stream, now);
    }

    /// Takes the place of a stream away. The stream keeps its entry until it is reset, so its responses and trailers
    /// are still judged and cleaned.
    pub(crate) fn displace(&mut self, id: u32) {
        if let Some(mut stream) = self.streams.remove(&id) {
            self.uncount(id, &stream);
            stream.has_place = false;
            self.streams.insert(id, stream);
        }
    }

    fn count(&mut self, id: u32, stream: &LiveStream, now: u64) {
        if !stream.has_place {
            return;
        }
        let sandbox = self.sandboxes.entry(stream.permit.sandbox_id().to_owned()).or_default();
        sandbox.in_flight.add(stream.permit.class());
        if stream.permit.class() == Class::Anonymous {
            sandbox.anonymous.acquire(stream.client, id, now);
        }
    }

    fn uncount(&mut self, id: u32, stream: &LiveStream) {
        if !stream.has_place {
            return;
        }
        let sandbox_id = stream.permit.sandbox_id();
        let Some(sandbox) = self.sandboxes.get_mut(sandbox_id) else { return };
        sandbox.in_flight.remove(stream.permit.class());
        if stream.permit.class() == Class::Anonymous {
            sandbox.anonymous.release(stream.client, id);
        }
        if sandbox.in_flight.is_empty() {
            self.sandboxes.remove(sandbox_id);
        }
    }

    /// Takes a stream out while it is judged; it still counts.
    pub(crate) fn take(&mut self, id: u32) -> Option<LiveStream> {
        self.streams.remove(&id)
    }

    /// Puts back what was taken.
    pub(crate) fn put_back(&mut self, id: u32, stream: LiveStream) {
        self.streams.insert(id, stream);
    }

    pub(crate) fn get(&self, id: u32) -> Option<&LiveStream> {
        self.streams.get(&id)
    }

    /// Requests to a sandbox that are in flight.
    pub(crate) fn in_flight(&self, sandbox_id: &str) -> InFlight {
        self.sandboxes.get(sandbox_id).map_or_else(InFlight::default, |sandbox| sandbox.in_flight)
    }

    /// The anonymous stream that must give way to a new one to the same sandbox.
    pub(crate) fn give_way(
        &self,
        sandbox_id: &str,
        newcomer: Client,
        now: u64,
        silence_ms: u64,
    ) -> Option<u32> {
        self.sandboxes.get(sandbox_id)?.anonymous.stream_to_evict(newcomer, now, Some(silence_ms))
    }

    /// The anonymous streams of sandboxes in which more than half of the anonymous share is taken. Their bytes are
    /// counted, so that their silence is known when the share is full.
    pub(crate) fn crowds(&self, shares: &Shares) -> Vec<u32> {
        let half = shares.anonymous() / 2;
        let crowded = self.sandboxes.values().filter(|it| it.in_flight.of(Class::Anonymous) > half);
        crowded.flat_map(|sandbox| sandbox.anonymous.streams()).collect()
    }

    /// Records how many bytes were sent on a stream, in both directions.
    pub(crate) fn record_bytes(&mut self, id: u32, bytes: u64, now: u64) {
        let Some(stream) = self.streams.get(&id) else { return };
        if let Some(sandbox) = self.sandboxes.get_mut(stream.permit.sandbox_id()) {
            sandbox.anonymous.record_bytes(stream.client, id, bytes, now);
        }
    }

    /// Marks the streams that a change concerns, to be judged again.
    pub(crate) fn suspect(&mut self, change: &Change) {
        let concerned = self.streams.iter().filter(|(_, stream)| stream.rests_on(change));
        self.suspects.extend(concerned.map(|(id, _)| *id));
        self.start_round();
    }

    /// Marks one stream, if it is live.
    pub(crate) fn suspect_one(&mut self, id: u32) {
        if self.streams.contains_key(&id) {
            self.suspects.insert(id);
            self.start_round();
        }
    }

    /// Marks all streams.
    pub(crate) fn suspect_all(&mut self) {
        self.suspects.extend(self.streams.keys());
        self.start_round();
    }

    /// Marks the streams whose credential has expired.
    pub(crate) fn suspect_expired(&mut self, unix_seconds: u64) {
        let expired = self.streams.iter().filter(|(_, stream)| stream.is_expired(unix_seconds));
        self.suspects.extend(expired.map(|(id, _)| *id));
    }

    /// Has every suspect judged once, also those over which nothing could be said before.
    pub(crate) fn start_round(&mut self) {
        self.left = self.suspects.len();
    }

    /// Whether suspects wait to be judged in this round.
    pub(crate) fn is_in_round(&self) -> bool {
        self.left > 0
    }

    /// The suspects to be judged now, at most `max`.
    pub(crate) fn next_suspects(&mut self, max: usize) -> Vec<u32> {
        let max = max.min(self.left);
        let behind = self.judged.saturating_add(1);
        let next = self.suspects.range(behind..).chain(self.suspects.range(..behind));
        let next: Vec<u32> = next.take(max).copied().collect();
        self.left = self.left.saturating_sub(max);
        self.judged = next.last().copied().unwrap_or(self.judged);
        next
    }

    pub(crate) fn acquit(&mut self, id: u32) {
        self.suspects.remove(&id);
    }
}
