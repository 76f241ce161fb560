//! The requests that have waited for a resume and now wait for a slot of their sandbox, because a resume releases all of
//! them at the same time.
//!
//! While such requests wait, the number of requests in flight to their sandbox begins with a small window, and the window
//! doubles with each tick. A request that follows another one uses its connection. If all of them were forwarded at once,
//! Envoy would open a connection to the sandbox for each.

use std::collections::{BTreeMap, BTreeSet};

use sandgate_policy::ids::SandboxId;

use crate::ingress::TICK_MS;
use crate::ingress::effect::StreamId;

/// The first window.
const WINDOW: usize = 64;
/// After this number of ticks there is no window.
const DOUBLINGS: u32 = 10;

#[derive(Debug, Default)]
pub(crate) struct Crowded {
    streams: BTreeMap<StreamId, String>,
    /// None is empty.
    sandboxes: BTreeMap<String, Sandbox>,
}

/// The requests to one sandbox.
#[derive(Debug)]
struct Sandbox {
    /// When the first of them began to wait for a slot, in milliseconds.
    since: u64,
    /// In the order in which they arrived.
    waiting: BTreeSet<StreamId>,
    /// Those that the next run evaluates, because a slot is free.
    next: BTreeSet<StreamId>,
}

impl Crowded {
    pub(crate) fn insert(&mut self, sandbox_id: &SandboxId, stream: StreamId, now: u64) {
        let id = sandbox_id.as_str();
        self.streams.insert(stream, id.to_owned());
        let new = || Sandbox { since: now, waiting: BTreeSet::new(), next: BTreeSet::new() };
        let sandbox = self.sandboxes.entry(id.to_owned()).or_insert_with(new);
        sandbox.next.remove(&stream);
        sandbox.waiting.insert(stream);
    }

    /// A request no longer waits for a slot.
    pub(crate) fn remove(&mut self, stream: StreamId) {
        let Some(id) = self.streams.remove(&stream) else { return };
        if let Some(sandbox) = self.sandboxes.get_mut(&id) {
            sandbox.waiting.remove(&stream);
            sandbox.next.remove(&stream);
            if sandbox.waiting.is_empty() && sandbox.next.is_empty() {
                self.sandboxes.remove(&id);
            }
        }
    }

    /// The request that has waited the longest for a slot of a sandbox, of those that were not returned since they began
    /// to wait.
    pub(crate) fn next(&mut self, sandbox_id: &SandboxId) -> Option<StreamId> {
        let sandbox = self.sandboxes.get_mut(sandbox_id.as_str())?;
        let first = sandbox.waiting.pop_first()?;
        sandbox.next.insert(first);
        Some(first)
    }

    /// How many requests to a sandbox may be in flight before one that a resume has released waits.
    pub(crate) fn window(&self, sandbox_id: &SandboxId, now: u64) -> usize {
        let Some(sandbox) = self.sandboxes.get(sandbox_id.as_str()) else { return WINDOW };
        match u32::try_from(now.saturating_sub(sandbox.since) / TICK_MS) {
            Ok(ticks) if ticks < DOUBLINGS => WINDOW << ticks,
            _ => usize::MAX,
        }
    }

    #[cfg(test)]
    pub(crate) fn contains(&self, stream: StreamId) -> bool {
        self.streams.contains_key(&stream)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        let both = self.sandboxes.values().map(|it| it.waiting.len() + it.next.len());
        assert_eq!(both.sum::<usize>(), self.streams.len(), "both indices agree");
        self.streams.len()
    }
}
