//! Addresses of denied names from responses to the sandbox's queries: from responses that the sandbox does not get because
//! an alias in them leads to a denied name, and from those that it gets because the name is denied on some ports only.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use sandgate_policy::egress::Name;
use tokio::sync::Notify;

/// The maximum number of stored pairs, because the sandbox controls their number.
const MAX: usize = 256;

/// A name and one of its addresses.
pub type Pair = (Name, IpAddr);

/// The pairs that the agent has not taken yet.
#[derive(Debug, Default)]
pub(super) struct Observed {
    pairs: Mutex<BTreeSet<Pair>>,
    added: Notify,
}

impl Observed {
    pub(super) fn add(&self, pairs: Vec<Pair>) {
        if pairs.is_empty() {
            return;
        }
        let mut stored = self.pairs.lock().unwrap_or_else(PoisonError::into_inner);
        let room = MAX.saturating_sub(stored.len());
        stored.extend(pairs.into_iter().take(room));
        self.added.notify_one();
    }

    /// Waits until there is a pair, and takes all pairs.
    pub(super) async fn next(&self) -> BTreeSet<Pair> {
        loop {
            let pairs =
                std::mem::take(&mut *self.pairs.lock().unwrap_or_else(PoisonError::into_inner));
            if !pairs.is_empty() {
                return pairs;
            }
            self.added.notified().await;
        }
    }
}
