//! Bounds the memory that large responses take.
//!
//! A response with a wasm module has about 1 MB. All streams share it until it is encoded for a connection, and a new module is for
//! all nodes at once. So only some clients get a large response at the same time; the next one follows when one of them has
//! answered.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::Limits;
use crate::wire::DeltaDiscoveryResponse;

/// The size from which a response is large. All other resources of an edge together have less.
const LARGE: usize = 256 << 10;

/// The large responses of a stream that have no answer yet.
pub(super) struct Large {
    slots: Arc<Semaphore>,
    limits: Limits,
    sent: Option<Sent>,
}

struct Sent {
    nonce: String,
    due: Instant,
    _slot: OwnedSemaphorePermit,
}

impl Large {
    pub(super) fn new(slots: &Arc<Semaphore>, limits: Limits) -> Self {
        Self { slots: Arc::clone(slots), limits, sent: None }
    }

    /// Waits until the response may be sent.
    pub(super) async fn admit(&mut self, response: &DeltaDiscoveryResponse) {
        let size = response.resources.iter().filter_map(|it| it.resource.as_ref());
        let size: usize = size.map(|body| body.value.len()).sum();
        if size < LARGE {
            return;
        }
        // A second one of the same stream replaces the first one.
        let held = self.sent.take().map(|sent| sent._slot);
        let slot = match held {
            Some(slot) => slot,
            // The semaphore is never closed.
            None => match Arc::clone(&self.slots).acquire_owned().await {
                Ok(slot) => slot,
                Err(_) => return,
            },
        };
        let due = Instant::now() + self.limits.unread;
        self.sent = Some(Sent { nonce: response.nonce.clone(), due, _slot: slot });
    }

    /// Takes the answer to a response.
    pub(super) fn answered(&mut self, nonce: &str) {
        self.sent.take_if(|sent| sent.nonce == nonce);
    }

    /// The time until which the client must answer.
    pub(super) fn due(&self) -> Option<Instant> {
        self.sent.as_ref().map(|sent| sent.due)
    }
}
