//! The change feed: a long poll that reports which cache entries are outdated.

use std::time::Duration;

use sandgate_policy::gateway_api::Changes;
use sandgate_policy::ingress::cache::Reported;
use sandgate_policy::ingress::config::IngressConfig;

use crate::ingress::effect::{Call, CallId, CallResponse};

/// The time limit of a call exceeds the time for which the control plane holds it by this, in milliseconds.
const GRACE_MS: u32 = 5_000;
/// The delay after the first failure, in milliseconds. It doubles with each further failure, up to the maximum.
const BACKOFF_BASE_MS: u64 = 200;
const BACKOFF_MAX_MS: u64 = 3_200;

#[derive(Debug)]
pub(crate) struct Feed {
    /// Identifies the hub to the control plane.
    watcher: String,
    /// The last revision that the control plane sent.
    revision: Option<String>,
    in_flight: Option<CallId>,
    /// When the last call was sent.
    sent_at: u64,
    /// When the last call that has a response was sent. All changes up to then have been reported.
    reported_until: u64,
    /// The next call is not sent before this time.
    due_at: u64,
    failures: u32,
    is_working: bool,
    /// The results of lookups that were sent at this time or later are covered. It is just after the first response or
    /// the last reset.
    covered_since: Option<u64>,
    /// Whether the caches may contain early entries: the results of lookups that were sent before the first response.
    has_early_entries: bool,
}

/// The changes since the last response of the feed.
pub(crate) struct FeedUpdate {
    pub(crate) changes: Changes,
    pub(crate) is_first: bool,
}

impl Feed {
    pub(crate) fn new(watcher: String) -> Self {
        Self {
            watcher,
            revision: None,
            in_flight: None,
            sent_at: 0,
            reported_until: 0,
            due_at: 0,
            failures: 0,
            is_working: false,
            covered_since: None,
            has_early_entries: false,
        }
    }

    /// A feed that begins again, under the same name.
    pub(crate) fn restarted(&self) -> Self {
        Self::new(self.watcher.clone())
    }

    /// The time since which the feed has reported every change. `None` while the feed does not work. A call that
    /// never receives a response fails at its time limit.
    pub(crate) fn covered_since(&self) -> Option<u64> {
        self.covered_since.filter(|_| self.is_working)
    }

    /// What the feed has reported, whether or not it works now.
    pub(crate) fn reported(&self) -> Option<Reported> {
        self.covered_since.map(|since| Reported { since, until: self.reported_until })
    }

    /// Returns true once: when all early entries have expired. Early entries are the results of lookups that were sent
    /// before the first response.
    pub(crate) fn take_early_entries_expired(&mut self, now: u64, no_feed_ttl: u64) -> bool {
        let since = self.covered_since.unwrap_or(now);
        let have_expired = self.has_early_entries && now.saturating_sub(since) >= no_feed_ttl;
        self.has_early_entries = self.has_early_entries && !have_expired;
        have_expired
    }

    pub(crate) fn is_due(&self, now: u64) -> bool {
        self.in_flight.is_none() && now >= self.due_at
    }

    pub(crate) fn owns(&self, call: CallId) -> bool {
        self.in_flight == Some(call)
    }

    pub(crate) fn poll(&mut self, id: CallId, config: &IngressConfig, now: u64) -> Call {
        self.in_flight = Some(id);
        self.sent_at = now;
        let wait_ms = config.limits().feed_wait_ms;
        let mut path = format!("/gateway/v1/changes?wait_ms={wait_ms}&watcher={}", self.watcher);
        if let Some(revision) = &self.revision {
            path.push_str("&since=");
            path.push_str(revision);
        }
        let timeout = Duration::from_millis(wait_ms.saturating_add(GRACE_MS).into());
        Call { id, method: "GET", path, body: None, timeout }
    }

    /// Ends the call in flight. `None` if the control plane did not answer it.
    pub(crate) fn on_response(
        &mut self,
        response: Option<&CallResponse<'_>>,
        now: u64,
    ) -> Option<FeedUpdate> {
        self.in_flight = None;
        let Some(changes) = response.and_then(parse) else {
            self.on_failure(now);
            return None;
        };
        let is_first = self.revision.replace(changes.revision.clone()).is_none();
        // For a lookup in flight, the control plane may have read a state that is older than the revision of this
        // response, so its result is not covered. After a failure the feed continues at the last revision, so it has
        // missed no change unless the response says so.
        if is_first || changes.reset {
            self.covered_since = Some(now.saturating_add(1));
        }
        self.has_early_entries |= is_first;
        self.reported_until = self.sent_at;
        self.failures = 0;
        self.due_at = now;
        self.is_working = true;
        Some(FeedUpdate { changes, is_first })
    }

    fn on_failure(&mut self, now: u64) {
        let delay = BACKOFF_BASE_MS.checked_shl(self.failures).unwrap_or(BACKOFF_MAX_MS);
        self.due_at = now.saturating_add(delay.min(BACKOFF_MAX_MS));
        self.failures = self.failures.saturating_add(1).min(16);
        self.is_working = false;
    }
}

/// `None` if the control plane did not send the response, or it has no revision.
fn parse(response: &CallResponse<'_>) -> Option<Changes> {
    if !response.is_success() {
        return None;
    }
    let changes = Changes::from_json(response.body).ok()?;
    // The revision becomes part of the next call's path as it is.
    let is_unreserved = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~');
    changes.revision.bytes().all(is_unreserved).then_some(changes)
}
