//! The requests that have waited for a resume and now wait for a slot of their sandbox, because a resume releases all of
//! them at the same time.

use std::collections::{BTreeMap, BTreeSet};

use sandgate_policy::ids::SandboxId;

use crate::ingress::effect::StreamId;

#[derive(Debug, Default)]
pub(crate) struct Crowded {
    streams: BTreeMap<StreamId, String>,
    /// The streams of each sandbox, in the order in which they arrived. None is empty.
    sandboxes: BTreeMap<String, BTreeSet<StreamId>>,
}

impl Crowded {
    pub(crate) fn insert(&mut self, sandbox_id: &SandboxId, stream: StreamId) {
        self.remove(stream);
        let sandbox_id = sandbox_id.as_str();
        self.streams.insert(stream, sandbox_id.to_owned());
        self.sandboxes.entry(sandbox_id.to_owned()).or_default().insert(stream);
    }

    /// A request no longer waits for a slot.
    pub(crate) fn remove(&mut self, stream: StreamId) {
        let Some(sandbox_id) = self.streams.remove(&stream) else { return };
        if let Some(streams) = self.sandboxes.get_mut(&sandbox_id) {
            streams.remove(&stream);
            if streams.is_empty() {
                self.sandboxes.remove(&sandbox_id);
            }
        }
    }

    /// The request that has waited the longest for a slot of a sandbox. It no longer counts as waiting for one.
    pub(crate) fn pop_first(&mut self, sandbox_id: &SandboxId) -> Option<StreamId> {
        let first = *self.sandboxes.get(sandbox_id.as_str())?.first()?;
        self.remove(first);
        Some(first)
    }

    #[cfg(test)]
    pub(crate) fn contains(&self, stream: StreamId) -> bool {
        self.streams.contains_key(&stream)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.streams.len()
    }
}
