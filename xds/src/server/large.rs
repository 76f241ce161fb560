//! Bounds the memory that large responses take.
//!
//! A response with a wasm module has about 1 MB. All streams share it until it is encoded for a connection, and a new module is for
//! all nodes at once. So only some nodes get a large response at the same time; the next one follows when one of them has
//! answered. A node has one slot: its newest stream takes it over, and the former one ends. An edge whose connection was lost
//! comes back without a wait that way, and nobody can hold the slots of others with several streams.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

use super::Limits;
use crate::wire::DeltaDiscoveryResponse;

/// The size from which a response is large. All other resources of an edge together have less.
const LARGE: usize = 256 << 10;

/// The slots of all nodes.
pub(crate) struct Slots {
    free: Arc<Semaphore>,
    taken: Mutex<HashMap<String, Weak<Slot>>>,
}

/// The slot of a node. It is free again when its last stream has dropped it.
struct Slot {
    _permit: OwnedSemaphorePermit,
    /// The number of the stream that has it, which grows.
    holder: watch::Sender<u64>,
}

/// A stream's hold on the slot of its node.
struct Held {
    slot: Arc<Slot>,
    holder: u64,
}

impl Slots {
    pub(super) fn new(most: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(most)), taken: Mutex::default() }
    }

    /// Takes the slot of the node over, or waits for a free one. Returns `None` only if the semaphore is closed, which it never is.
    async fn take(&self, node: &str) -> Option<Held> {
        if let Some(held) = self.take_over(node) {
            return Some(held);
        }
        let permit = Arc::clone(&self.free).acquire_owned().await.ok()?;
        // Another stream of the node may have got a slot during the wait.
        Some(self.take_over(node).unwrap_or_else(|| self.begin(node, permit)))
    }

    fn take_over(&self, node: &str) -> Option<Held> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = taken.get(node)?.upgrade()?;
        slot.holder.send_modify(|holder| *holder += 1);
        let holder = *slot.holder.borrow();
        Some(Held { slot, holder })
    }

    fn begin(&self, node: &str, permit: OwnedSemaphorePermit) -> Held {
        let slot = Arc::new(Slot { _permit: permit, holder: watch::Sender::new(0) });
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.retain(|_, slot| slot.strong_count() > 0);
        taken.insert(node.to_owned(), Arc::downgrade(&slot));
        Held { slot, holder: 0 }
    }
}

/// The large response of a stream that has no answer yet.
pub(super) struct Large {
    node: String,
    limits: Limits,
    sent: Option<Sent>,
}

struct Sent {
    nonce: String,
    due: Instant,
    held: Held,
}

impl Large {
    pub(super) fn new(node: &str, limits: Limits) -> Self {
        Self { node: node.to_owned(), limits, sent: None }
    }

    /// Waits until the response may be sent.
    pub(super) async fn admit(&mut self, slots: &Slots, response: &DeltaDiscoveryResponse) {
        let size = response.resources.iter().filter_map(|it| it.resource.as_ref());
        let size: usize = size.map(|body| body.value.len()).sum();
        if size < LARGE {
            return;
        }
        // A second one of the same stream replaces the first one.
        let held = match self.sent.take() {
            Some(sent) => sent.held,
            None => match slots.take(&self.node).await {
                Some(held) => held,
                None => return,
            },
        };
        let due = Instant::now() + self.limits.unread;
        self.sent = Some(Sent { nonce: response.nonce.clone(), due, held });
    }

    /// Takes the answer to a response.
    pub(super) fn answered(&mut self, nonce: &str) {
        self.sent.take_if(|sent| sent.nonce == nonce);
    }

    /// The time until which the client must answer.
    pub(super) fn due(&self) -> Option<Instant> {
        self.sent.as_ref().map(|sent| sent.due)
    }

    /// Ends when another stream of the node has taken the slot over.
    pub(super) async fn taken_over(&self) {
        let Some(sent) = &self.sent else { return std::future::pending().await };
        let mut holder = sent.held.slot.holder.subscribe();
        // The slot has the sender, and this stream has the slot.
        let _ = holder.wait_for(|holder| *holder != sent.held.holder).await;
    }
}
