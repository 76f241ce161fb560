//! Streams that were forwarded and have not ended: counted by sandbox, and judged again when what
//! their permit rested on changes.

use std::collections::{BTreeMap, BTreeSet};

use sandgate_policy::credential::Credential;
use sandgate_policy::gateway::Change;
use sandgate_policy::ingress::{Inquiry, Permit};
use sandgate_policy::recipient::Recipient;
use sandgate_policy::response::Exchange;

/// One forwarded stream. No `Debug`: the inquiry may hold a secret.
pub(crate) struct LiveStream {
    pub(crate) inquiry: Inquiry,
    pub(crate) permit: Permit,
    /// What its response is judged by.
    pub(crate) exchange: Exchange,
    /// Who reads what the gateway answers in the sandbox's place.
    pub(crate) recipient: Recipient,
}

impl LiveStream {
    fn rests_on(&self, change: &Change) -> bool {
        match change {
            Change::Sandbox { refs } => refs.iter().any(|name| {
                name == self.inquiry.sandbox().as_str() || name == self.permit.sandbox_id()
            }),
            Change::Principal { id } => {
                self.permit.caller().is_some_and(|caller| caller.principal == *id)
            }
        }
    }

    /// The credential that was judged; none on a public port, where what is shown is the app's.
    pub(crate) fn credential(&self) -> Option<&Credential> {
        self.inquiry.credential().filter(|_| self.permit.caller().is_some())
    }

    pub(crate) fn is_expired(&self, unix_seconds: u64) -> bool {
        let expiry = self.permit.caller().and_then(|caller| caller.expires_at);
        expiry.is_some_and(|expiry| unix_seconds >= expiry)
    }
}

/// All live streams of a VM.
#[derive(Default)]
pub(crate) struct Live {
    streams: BTreeMap<u32, LiveStream>,
    in_flight: BTreeMap<String, usize>,
    suspects: BTreeSet<u32>,
    /// The suspect that was judged last. The next turn goes on behind it, so that changes which
    /// concern one owner's streams again and again keep nobody else's from being judged.
    judged: u32,
    /// Suspects still to be judged in this round.
    left: usize,
}

impl Live {
    pub(crate) fn insert(&mut self, id: u32, stream: LiveStream) {
        let count = self.in_flight.entry(stream.permit.sandbox_id().to_owned()).or_default();
        *count = count.saturating_add(1);
        self.streams.insert(id, stream);
    }

    pub(crate) fn remove(&mut self, id: u32) {
        self.suspects.remove(&id);
        let Some(stream) = self.streams.remove(&id) else { return };
        let sandbox_id = stream.permit.sandbox_id();
        if let Some(count) = self.in_flight.get_mut(sandbox_id) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.in_flight.remove(sandbox_id);
            }
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
    pub(crate) fn in_flight(&self, sandbox_id: &str) -> usize {
        self.in_flight.get(sandbox_id).copied().unwrap_or(0)
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
