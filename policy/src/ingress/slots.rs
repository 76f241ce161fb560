//! The streams that hold slots, by client, and the choice of the stream to evict when all slots are taken. Each sandbox
//! has a set of slots for its anonymous requests. Another set limits the requests that wait for the control plane.
//!
//! An anonymous client can't be identified beyond its address, so a client that keeps its slots could lock all others
//! out. If all slots are taken, a new request evicts a stream of a client that holds at least two more slots than its
//! own client, or a stream that has been silent. No stream is evicted while slots are free.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The address that identifies the client of a request.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum ClientAddress {
    /// An IPv4 address, also if it is written as an IPv4-mapped IPv6 address.
    V4(Ipv4Addr),
    /// The first 64 bits of an IPv6 address. A host chooses the other bits itself (RFC 4291, section 2.5.1).
    V6([u16; 4]),
    /// The address is unknown. All such requests count as one client.
    Unknown,
}

impl ClientAddress {
    /// The part of the address and port that identifies the client of a connection, as Envoy writes them.
    #[must_use]
    pub fn of_connection(address: &[u8]) -> Self {
        let parsed = std::str::from_utf8(address).ok().and_then(|text| text.parse().ok());
        match parsed.map(|address: SocketAddr| address.ip().to_canonical()) {
            Some(IpAddr::V4(address)) => Self::V4(address),
            Some(IpAddr::V6(address)) => {
                let [a, b, c, d, ..] = address.segments();
                Self::V6([a, b, c, d])
            }
            None => Self::Unknown,
        }
    }
}

/// The traffic of one stream.
#[derive(Clone, Copy, Debug)]
struct Activity {
    /// The bytes in both directions at the last count; `None` before the first count.
    bytes: Option<u64>,
    /// When the count last changed, in milliseconds; before the first count, when the stream began.
    since: u64,
}

impl Activity {
    /// For how long nothing was sent, in milliseconds. Before the first count it is 0, because the stream may have
    /// been busy.
    fn silent_ms(&self, now: u64) -> u64 {
        self.bytes.map_or(0, |_| now.saturating_sub(self.since))
    }
}

/// The streams that hold slots, by client.
#[derive(Clone, Debug, Default)]
pub struct SlotHolders {
    clients: BTreeMap<ClientAddress, BTreeMap<u32, Activity>>,
    taken: usize,
}

impl SlotHolders {
    /// Records that a stream holds a slot. `now` is in milliseconds.
    pub fn acquire(&mut self, client: ClientAddress, stream: u32, now: u64) {
        let activity = Activity { bytes: None, since: now };
        if self.clients.entry(client).or_default().insert(stream, activity).is_none() {
            self.taken = self.taken.saturating_add(1);
        }
    }

    /// Records that a stream no longer holds a slot.
    pub fn release(&mut self, client: ClientAddress, stream: u32) {
        if let Some(streams) = self.clients.get_mut(&client) {
            if streams.remove(&stream).is_some() {
                self.taken = self.taken.saturating_sub(1);
            }
            if streams.is_empty() {
                self.clients.remove(&client);
            }
        }
    }

    /// Records how many bytes a stream has sent and received so far.
    pub fn record_bytes(&mut self, client: ClientAddress, stream: u32, bytes: u64, now: u64) {
        let streams = self.clients.get_mut(&client);
        if let Some(activity) = streams.and_then(|streams| streams.get_mut(&stream))
            && activity.bytes != Some(bytes)
        {
            *activity = Activity { bytes: Some(bytes), since: now };
        }
    }

    /// Chooses the stream to evict in favour of a new stream of `newcomer`: of the client with the most slots, the
    /// stream that has been silent for the longest time. `None` if no stream may be evicted.
    ///
    /// A stream of a client that holds at least two slots more than the newcomer may always be evicted: afterwards the
    /// client still holds as many slots as the newcomer. Of a client that holds as many slots, or one more, only a
    /// stream that has been silent for `silence_ms` may be evicted, or none if `silence_ms` is `None`. A client that
    /// holds fewer slots keeps all of them.
    #[must_use]
    pub fn stream_to_evict(
        &self,
        newcomer: ClientAddress,
        now: u64,
        silence_ms: Option<u64>,
    ) -> Option<u32> {
        let held = |client| self.clients.get(&client).map_or(0, BTreeMap::len);
        let own = held(newcomer);
        let candidates = self.clients.iter().filter(|(_, streams)| streams.len() >= own);
        let candidates = candidates.filter_map(|(_, streams)| {
            let oldest = std::cmp::Reverse;
            let (stream, activity) =
                streams.iter().max_by_key(|(_, it)| (it.silent_ms(now), oldest(it.since)))?;
            let silent_ms = activity.silent_ms(now);
            let is_silent = silence_ms.is_some_and(|limit| silent_ms >= limit);
            let gives_way = streams.len() >= own.saturating_add(2) || is_silent;
            gives_way.then_some((streams.len(), silent_ms, *stream))
        });
        candidates.max().map(|(_, _, stream)| stream)
    }

    /// Of the client with the most slots, the stream that was the last to get one.
    #[must_use]
    pub fn newest_of_largest_client(&self) -> Option<u32> {
        let largest = self.clients.values().max_by_key(|streams| streams.len())?;
        largest.last_key_value().map(|(stream, _)| *stream)
    }

    /// All streams that hold a slot.
    pub fn streams(&self) -> impl Iterator<Item = u32> {
        self.clients.values().flat_map(|streams| streams.keys().copied())
    }

    /// The number of taken slots.
    #[must_use]
    pub fn len(&self) -> usize {
        self.taken
    }

    /// Whether no slot is taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.taken == 0
    }
}
