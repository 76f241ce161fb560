//! Addresses of denied names that came by: in answers that the sandbox does not get, since an alias in
//! them leads to such a name.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use sandgate_policy::egress::Name;
use tokio::sync::Notify;

/// How many are kept until they are fetched: a sandbox decides how many come.
const MOST: usize = 256;

/// A name and an address that it has.
pub type Pair = (Name, IpAddr);

/// Those that nobody has fetched yet.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pairs: Mutex<BTreeSet<Pair>>,
    news: Notify,
}

impl Seen {
    pub(super) fn add(&self, pairs: Vec<Pair>) {
        let mut held = self.pairs.lock().unwrap_or_else(PoisonError::into_inner);
        let room = MOST.saturating_sub(held.len());
        held.extend(pairs.into_iter().take(room));
        if !held.is_empty() {
            self.news.notify_one();
        }
    }

    /// Waits until there are some, and takes them.
    pub(super) async fn next(&self) -> BTreeSet<Pair> {
        loop {
            let pairs =
                std::mem::take(&mut *self.pairs.lock().unwrap_or_else(PoisonError::into_inner));
            if !pairs.is_empty() {
                return pairs;
            }
            self.news.notified().await;
        }
    }
}
