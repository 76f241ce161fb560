//! The reports of denials to the control plane.
//!
//! At most one report is in flight, and a pause follows each report, so the control plane gets reports at a bounded rate. No request waits
//! for a report. While the control plane takes no reports, the counts stay within their bounds.

use std::time::Duration;

use super::DenialCounts;
use crate::ingress::effect::{Call, CallId, CallResponse};

/// The path of the call.
const PATH: &str = "/gateway/v1/denials";
/// The least time between two reports, in milliseconds.
const INTERVAL_MS: u64 = 2_000;
/// The time after a report that was not taken, in milliseconds.
const INTERVAL_AFTER_FAILURE_MS: u64 = 20_000;
const TIMEOUT: Duration = Duration::from_secs(5);

/// The reports of a hub.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    pub(crate) pending: DenialCounts,
    in_flight: Option<(CallId, DenialCounts)>,
    /// The next report is not sent before this time.
    due_at: u64,
}

impl Reports {
    pub(crate) fn is_due(&self, now: u64) -> bool {
        !self.pending.is_empty() && self.in_flight.is_none() && now >= self.due_at
    }

    #[cfg(test)]
    pub(crate) fn is_in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    pub(crate) fn owns(&self, call: CallId) -> bool {
        self.in_flight.as_ref().is_some_and(|(id, _)| *id == call)
    }

    /// The call with the next report.
    pub(crate) fn send(&mut self, id: CallId, now: u64) -> Call {
        let counts = std::mem::take(&mut self.pending);
        let body = serde_json::to_vec(&counts.report()).unwrap_or_default();
        self.in_flight = Some((id, counts));
        self.due_at = now.saturating_add(INTERVAL_MS);
        Call { id, method: "POST", path: PATH.to_owned(), body: Some(body), timeout: TIMEOUT }
    }

    /// Ends the call in flight. Counts that the control plane did not take are sent again, except after a final refusal.
    pub(crate) fn finish(&mut self, response: Option<&CallResponse<'_>>, now: u64) {
        let Some((_, counts)) = self.in_flight.take() else { return };
        let answered = response.filter(|response| response.has_marker()).map(CallResponse::status);
        if answered == Some(204) {
            return;
        }
        self.due_at = now.saturating_add(INTERVAL_AFTER_FAILURE_MS);
        // A control plane that has no such path, or can't read this report, would refuse another attempt, too.
        if !matches!(answered, Some(400 | 404 | 413)) {
            self.pending.merge(counts);
        }
    }
}
