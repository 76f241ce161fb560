//! What a hub tells its host and its workers.

use std::sync::Arc;

use sandgate_policy::gateway_api::Changes;

use crate::ingress::effect::{Call, CallKind, StreamId};
use crate::ingress::lookups::{LookupKey, LookupResult};

/// A worker of a hub.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct WorkerId(pub(super) u32);

impl WorkerId {
    /// The first and last streams of this worker, for ranges of pairs.
    pub(crate) fn streams(self) -> std::ops::RangeInclusive<(Self, StreamId)> {
        (self, StreamId::MIN)..=(self, StreamId::MAX)
    }
}

/// An effect of the hub, to be executed in order.
pub enum HubEffect {
    /// Send a call. Its response goes to [`Hub::on_call_response`](crate::ingress::Hub::on_call_response).
    Call(Call),
    /// Count a call to the control plane.
    CallFinished { kind: CallKind, is_answered: bool },
    /// Pass a notice to [`Engine::on_notice`](crate::ingress::Engine::on_notice) of one worker.
    Notify(WorkerId, Notice),
    /// Pass a notice to [`Engine::on_notice`](crate::ingress::Engine::on_notice) of each worker that has streams.
    NotifyAll(Notice),
    /// Call [`Hub::run`](crate::ingress::Hub::run) soon, after the current callback. If this fails, the next tick does
    /// the work.
    Run,
}

/// What an engine must know of an event of the hub.
#[derive(Clone)]
pub struct Notice {
    /// When the event occurred, in milliseconds.
    pub(crate) at: u64,
    pub(crate) content: Content,
}

#[derive(Clone)]
pub(crate) enum Content {
    /// A lookup has ended that these streams wait for. The result is `None` if it failed.
    LookupEnded { key: Arc<LookupKey>, result: Option<Arc<LookupResult>>, streams: Vec<StreamId> },
    /// The feed has reported changes.
    Changed(Arc<Changes>),
    /// The results of lookups that were sent before the first response of the feed have expired.
    EarlyEntriesExpired,
}

#[cfg(test)]
impl Notice {
    /// Whether it ends the wait of a stream for a lookup.
    pub(crate) fn ends(&self, lookup: &LookupKey, stream: StreamId) -> bool {
        match &self.content {
            Content::LookupEnded { key, streams, .. } => {
                **key == *lookup && streams.contains(&stream)
            }
            Content::Changed(_) | Content::EarlyEntriesExpired => false,
        }
    }
}
