//! The stream that a sandbox and a caller are resolved for.

use crate::ingress::effect::StreamId;
use crate::ingress::lookups::{LookupKey, LookupReason};
use crate::ingress::properties::RequestProperties;

/// The lookups of one stream.
#[derive(Default)]
pub(crate) struct StreamLookups {
    /// Those without a result yet.
    pending: Vec<LookupKey>,
    /// All that the stream started or joined.
    started: Vec<LookupKey>,
}

impl StreamLookups {
    pub(crate) fn pending(&self) -> &[LookupKey] {
        &self.pending
    }

    pub(super) fn start(&mut self, key: LookupKey) {
        if !self.pending.contains(&key) {
            self.pending.push(key.clone());
        }
        self.started.push(key);
    }

    /// All lookups are lost.
    pub(crate) fn forget(&mut self) {
        self.pending.clear();
    }

    pub(crate) fn finish(&mut self, key: &LookupKey) {
        self.pending.retain(|pending| pending != key);
    }
}

/// The stream that a sandbox and a caller are resolved for.
pub(crate) struct Requester<'a> {
    pub(crate) stream: StreamId,
    pub(crate) kind: RequesterKind<'a>,
    /// When the request arrived, or its wait for the sandbox ended; for a live stream, when it was marked. The result of a
    /// lookup that was sent at this time or later is used, however old it is.
    pub(crate) arrived_at: u64,
    pub(crate) may_look_up: bool,
    pub(crate) lookups: &'a mut StreamLookups,
}

impl Requester<'_> {
    /// Why it looks something up. `None` if it may not.
    pub(super) fn reason(&self) -> Option<LookupReason> {
        self.may_look_up.then(|| match self.kind {
            RequesterKind::Request(properties) => LookupReason::Request(properties.client()),
            RequesterKind::LiveStream => LookupReason::LiveStream,
        })
    }

    /// Whether an old cache entry may be used while the control plane is unavailable. For a live stream, that would
    /// end a re-evaluation that a change has caused.
    pub(super) fn may_use_stale(&self) -> bool {
        matches!(self.kind, RequesterKind::Request(_))
    }

    /// A denial repeats a lookup only if it was sent before this time: before the request arrived. A lookup that this
    /// stream itself started in the millisecond of its arrival is not repeated.
    pub(super) fn recheck_before(&self, key: &LookupKey) -> u64 {
        match self.lookups.started.contains(key) {
            true => self.arrived_at.saturating_sub(1),
            false => self.arrived_at,
        }
    }
}

/// What the stream is: a request that is not decided, or a live stream.
#[derive(Clone, Copy)]
pub(crate) enum RequesterKind<'a> {
    Request(&'a RequestProperties<'a>),
    LiveStream,
}
