//! The part of the store that has the events of sandboxes.

use sandgate_policy::denials::{Denials, InboundDenial, OutboundDenial};

use super::Result;
use crate::model::{Event, SandboxId, Timestamp};

/// Denials that were reported for one sandbox.
#[derive(Clone, Debug, PartialEq)]
pub struct ReportedDenials {
    pub sandbox_id: SandboxId,
    pub inbound: Denials<InboundDenial>,
    pub outbound: Denials<OutboundDenial>,
}

/// Consecutive events of a sandbox, newest first.
#[derive(Clone, Debug, PartialEq)]
pub struct EventPage {
    pub events: Vec<Event>,
    /// There are older events.
    pub more: bool,
}

/// Events. The store itself records changes of ports and network policies, and suspends and resumes, in the transaction
/// that makes them.
pub trait Events {
    /// Records denials. An equal one of the same period becomes a greater count of its event. Denials of a sandbox that does
    /// not exist have no effect.
    ///
    /// # Errors
    /// The store can't be written.
    fn record_denials(&self, reported: &[ReportedDenials], now: Timestamp) -> Result<()>;

    /// Up to `limit` events of a sandbox, newest first; with `before`, only those with a smaller [`Event::number`].
    ///
    /// # Errors
    /// The store can't be read.
    fn events(&self, id: &SandboxId, before: Option<u64>, limit: usize) -> Result<EventPage>;
}
