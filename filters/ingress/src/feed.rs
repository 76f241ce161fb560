//! The change feed: one long poll of each VM, which names what to forget.

use std::time::Duration;

use sandgate_hostcalls::Result;
use sandgate_hostcalls::http::{self, Answer, Call};
use sandgate_policy::gateway_api::{Changes, MARKER_HEADER, MARKER_VALUE};
use sandgate_policy::ingress::config::IngressConfig;

/// What the call may take beyond the time that the control plane holds it, in milliseconds.
const GRACE_MS: u32 = 5_000;
/// Pauses after failures, in milliseconds: doubled each time, up to the last.
const FIRST_PAUSE_MS: u64 = 200;
const LAST_PAUSE_MS: u64 = 3_200;

/// Where the feed stands.
#[derive(Debug)]
pub(crate) struct Feed {
    watcher: String,
    since: Option<String>,
    under_way: Option<u32>,
    polled_at: u64,
    due: u64,
    failures: u32,
    works: bool,
    covered_since: Option<u64>,
    unsettled: bool,
}

/// What the feed told.
pub(crate) struct News {
    pub(crate) changes: Changes,
    /// It is the first answer that this VM got.
    pub(crate) is_first: bool,
}

impl Feed {
    /// A feed that has not been asked yet. `watcher` names this VM to the control plane.
    pub(crate) fn new(watcher: String) -> Self {
        Self {
            watcher,
            since: None,
            under_way: None,
            polled_at: 0,
            due: 0,
            failures: 0,
            works: false,
            covered_since: None,
            unsettled: false,
        }
    }

    /// Since when each change has been heard of, or will be at once; `None` while the feed does not
    /// work. A call that hangs ends by its own time limit.
    pub(crate) fn covered_since(&self) -> Option<u64> {
        self.covered_since.filter(|_| self.works)
    }

    /// True once: when nothing is believed any more that was asked before the feed began.
    pub(crate) fn is_settled(&mut self, now: u64, no_feed_ttl: u64) -> bool {
        let since = self.covered_since.unwrap_or(now);
        let settled = self.unsettled && now.saturating_sub(since) >= no_feed_ttl;
        self.unsettled = self.unsettled && !settled;
        settled
    }

    pub(crate) fn is_due(&self, now: u64) -> bool {
        self.under_way.is_none() && now >= self.due
    }

    pub(crate) fn owns(&self, token: u32) -> bool {
        self.under_way == Some(token)
    }

    /// Asks for what comes next. The root context must be the effective one.
    pub(crate) fn poll(&mut self, config: &IngressConfig, now: u64) {
        self.polled_at = now;
        match self.dispatch(config) {
            Ok(token) => self.under_way = Some(token),
            Err(_) => self.fail(now),
        }
    }

    fn dispatch(&self, config: &IngressConfig) -> Result<u32> {
        let wait = config.limits().feed_wait_ms;
        let mut path = format!("/gateway/v1/changes?wait_ms={wait}&watcher={}", self.watcher);
        if let Some(since) = &self.since {
            path.push_str("&since=");
            path.push_str(since);
        }
        let control_plane = config.control_plane();
        http::dispatch(&Call {
            cluster: &control_plane.cluster,
            method: "GET",
            authority: &control_plane.authority,
            path: &path,
            body: None,
            timeout: Duration::from_millis(wait.saturating_add(GRACE_MS).into()),
        })
    }

    /// Takes the answer of the call that was under way; `None` when it was not one.
    pub(crate) fn answer(&mut self, answer: Option<&Answer>, now: u64) -> Option<News> {
        self.under_way = None;
        let Some(changes) = answer.and_then(read) else {
            self.fail(now);
            return None;
        };
        let is_first = self.since.replace(changes.revision.clone()).is_none();
        // After a failure the feed goes on where it stood: nothing was missed, unless it says so.
        if is_first || changes.reset {
            self.covered_since = Some(self.polled_at);
        }
        self.unsettled |= is_first;
        self.failures = 0;
        self.due = now;
        self.works = true;
        Some(News { changes, is_first })
    }

    fn fail(&mut self, now: u64) {
        let pause = FIRST_PAUSE_MS.checked_shl(self.failures).unwrap_or(LAST_PAUSE_MS);
        self.due = now.saturating_add(pause.min(LAST_PAUSE_MS));
        self.failures = self.failures.saturating_add(1).min(16);
        self.works = false;
    }
}

fn read(answer: &Answer) -> Option<Changes> {
    let marked = answer.header(MARKER_HEADER) == Some(MARKER_VALUE.as_bytes());
    if !marked || answer.status() != 200 {
        return None;
    }
    let changes: Changes = serde_json::from_slice(&answer.body).ok()?;
    // It goes into the next call's path as it is.
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~');
    changes.revision.bytes().all(plain).then_some(changes)
}
