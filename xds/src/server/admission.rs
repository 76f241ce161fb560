//! The bounds on connections.
//!
//! Every connection is an open file of the control plane. A connection has a place until it ends. A client that opens
//! connections and opens no stream on them, with or without a certificate, must not take the places of the edges: a connection
//! without a stream ends soon, and one address has few of them.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The most connections of one address on which no stream has begun yet.
const WITHOUT_STREAM_PER_ADDRESS: usize = 64;

/// The connections of a listener.
pub(super) struct Connections {
    places: Arc<Semaphore>,
    without_stream: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Connections {
    /// Admits at most `most` connections at once.
    pub(super) fn new(most: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(most)), without_stream: Arc::default() }
    }

    /// The place of a new connection, unless a bound is reached.
    pub(super) fn admit(&self, address: IpAddr) -> Option<Arc<Place>> {
        let permit = Arc::clone(&self.places).try_acquire_owned().ok()?;
        let address = network(address);
        let mut counts = self.without_stream.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        if *count >= WITHOUT_STREAM_PER_ADDRESS {
            return None;
        }
        *count += 1;
        let counted = Counted { counts: Arc::clone(&self.without_stream), address };
        Some(Arc::new(Place {
            _permit: permit,
            without_stream: Mutex::new(Some(counted)),
            streams: AtomicUsize::new(0),
        }))
    }
}

/// The addresses that one client has: a /64 in IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)))
        }
        address @ IpAddr::V4(_) => address,
    }
}

/// The place of a connection.
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    without_stream: Mutex<Option<Counted>>,
    streams: AtomicUsize,
}

impl Place {
    /// Notes an authenticated stream, until the result is dropped.
    pub(super) fn begin_stream(self: &Arc<Self>) -> OpenStream {
        self.streams.fetch_add(1, Ordering::Relaxed);
        drop(self.without_stream.lock().unwrap_or_else(PoisonError::into_inner).take());
        OpenStream(Arc::clone(self))
    }

    pub(super) fn has_stream(&self) -> bool {
        self.streams.load(Ordering::Relaxed) > 0
    }
}

/// An open stream of a connection.
pub(super) struct OpenStream(Arc<Place>);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection in the count of its address.
struct Counted {
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
    address: IpAddr,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_leaves_places_to_others() {
        let connections = Connections::new(WITHOUT_STREAM_PER_ADDRESS + 2);
        let admit = |address: &str| connections.admit(address.parse().unwrap());
        let silent: Vec<_> = (0..WITHOUT_STREAM_PER_ADDRESS)
            .map(|number| admit(&format!("2001:db8::{number}")).unwrap())
            .collect();
        assert!(admit("2001:db8::ffff").is_none());
        let edge = admit("192.0.2.1").unwrap();
        // A connection with a stream does not count for its address, and has its place until it ends.
        let stream = silent[0].begin_stream();
        let another = admit("2001:db8::ffff").unwrap();
        assert!(admit("192.0.2.1").is_none());
        assert!(silent[0].has_stream() && !edge.has_stream());
        drop((stream, another, silent));
        assert!(admit("::ffff:192.0.2.1").is_some());
        drop(edge);
        assert!(connections.without_stream.lock().unwrap().is_empty());
    }
}
